"""OCI layouts for tests of images, hostile ones among them, and a real registry to push them to."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import tarfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vc_core.images.manifests import own_architecture
from vc_core.testing.rootfs import make_root_fs
from vc_core.testing.slowness import scaled

_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"

#: Seconds for one call of a tool, and for the registry to listen.
_TIMEOUT = 60.0


def entry(name: str, content: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """Return a member of a layer: a file, unless ``type`` is another one."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o644
    for field, value in fields.items():
        setattr(member, field, value)
    return member, content


def directory(name: str, mode: int = 0o755) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, type=tarfile.DIRTYPE, mode=mode)


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, type=tarfile.SYMTYPE, linkname=target)


def hard_link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, type=tarfile.LNKTYPE, linkname=target)


def layer(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """Return the tar archive with these members."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    return data.getvalue()


def make_layout(place: Path, layers: Sequence[bytes], settings: Mapping[str, Any] | None = None, **config: Any) -> Path:
    """Make the layout of an image with these layers and settings (``Entrypoint``, ...); return its directory."""
    (place / "blobs/sha256").mkdir(parents=True)
    (place / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}', encoding="ascii")
    document = {
        "architecture": own_architecture(),
        "os": "linux",
        "config": dict(settings or {}),
        "rootfs": {"type": "layers", "diff_ids": [_digest(one) for one in layers]},
        **config,
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": add_blob(place, json.dumps(document).encode(), _CONFIG),
        "layers": [add_blob(place, gzip.compress(one, mtime=0), _LAYER) for one in layers],
    }
    return write_index(place, [add_blob(place, json.dumps(manifest).encode(), _MANIFEST)])


def add_blob(place: Path, data: bytes, media_type: str) -> dict[str, Any]:
    """Add a blob to a layout and return its descriptor."""
    digest = _digest(data)
    (place / "blobs/sha256" / digest.partition(":")[2]).write_bytes(data)
    return {"mediaType": media_type, "digest": digest, "size": len(data)}


def write_index(place: Path, manifests: Iterable[Mapping[str, Any]]) -> Path:
    index = {"schemaVersion": 2, "manifests": list(manifests)}
    (place / "index.json").write_text(json.dumps(index), encoding="ascii")
    return place


def make_index(place: Path, architectures: Iterable[str]) -> Path:
    """Let the image of a layout be one of an index, for these architectures; return the layout's directory."""
    [one] = json.loads((place / "index.json").read_text(encoding="ascii"))["manifests"]
    every = [{**one, "platform": {"os": "linux", "architecture": name}} for name in architectures]
    index = json.dumps({"schemaVersion": 2, "mediaType": _INDEX, "manifests": every}).encode()
    return write_index(place, [add_blob(place, index, _INDEX)])


def manifest_digest(place: Path) -> str:
    """Return the digest of the only document that a layout's index names."""
    [one] = json.loads((place / "index.json").read_text(encoding="ascii"))["manifests"]
    return str(one["digest"])


def blob(place: Path, kind: str) -> Path:
    """Return the file of the "config" or of the first of the "layers" of the only image of a layout."""
    manifest = json.loads((place / "blobs" / manifest_digest(place).replace(":", "/")).read_text(encoding="ascii"))
    one = manifest["config"] if kind == "config" else manifest["layers"][0]
    return place / "blobs" / str(one["digest"]).replace(":", "/")


def make_busybox(place: Path, settings: Mapping[str, str | Sequence[str]]) -> Path:
    """Make the layout ``place/oci`` of an image with busybox by umoci, as people make one; return its directory.

    ``settings``: what ``umoci config --config.NAME`` takes, once or several times.
    """
    layout, bundle = place / "oci", place / "unpacked"
    image = ["--image", f"{layout}:latest"]
    tool("umoci", "init", "--layout", str(layout))
    tool("umoci", "new", *image)
    rootless = [] if os.geteuid() == 0 else ["--rootless"]
    tool("umoci", "unpack", *rootless, *image, str(bundle))
    make_root_fs(bundle / "rootfs")
    (bundle / "rootfs/work").mkdir()
    (bundle / "rootfs/work").chmod(0o777)
    tool("umoci", "repack", *image, str(bundle))
    every = {name: [value] if isinstance(value, str) else value for name, value in settings.items()}
    given = [f"--config.{name}={value}" for name, values in every.items() for value in values]
    tool("umoci", "config", *image, *given)
    return layout


def tool(*argv: str) -> str:
    """Run skopeo or umoci and return its output."""
    done = subprocess.run(argv, capture_output=True, encoding="utf-8", timeout=scaled(_TIMEOUT))
    assert done.returncode == 0, done.stderr
    return done.stdout


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Registry:
    """A registry (Debian's docker-registry) on a free port of the loopback interface, which stores below ``place``.

    ``users``: lines of htpasswd; empty: anybody may read and write.
    """

    def __init__(self, place: Path, users: str = "") -> None:
        self.storage = place / "storage"
        lines = [
            "version: 0.1",
            "log: {level: info}",
            f"storage: {{filesystem: {{rootdirectory: {self.storage}}}}}",
            "http: {addr: '127.0.0.1:0'}",
        ]
        if users:
            (place / "htpasswd").write_text(users, encoding="ascii")
            lines.append(f"auth: {{htpasswd: {{realm: test, path: {place / 'htpasswd'}}}}}")
        (place / "config.yml").write_text("\n".join(lines), encoding="utf-8")
        self._log = place / "log"
        with self._log.open("wb") as log:
            command = ["docker-registry", "serve", str(place / "config.yml")]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self.address = self._wait()
        except BaseException:
            self.close()
            raise

    def _wait(self) -> str:
        """Return host and port, once it listens there: it writes that to its log."""
        end = time.monotonic() + scaled(_TIMEOUT)
        while time.monotonic() < end and self._process.poll() is None:
            if found := re.search(r"listening on (127\.0\.0\.1:\d+)", self._log.read_text(encoding="utf-8")):
                return found[1]
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.02)
        raise AssertionError(f"the registry does not listen: {self._log.read_text(encoding='utf-8')}")

    def push(self, layout: Path, name: str, *options: str) -> str:
        """Push the image of a layout; return its name with the registry."""
        target = f"{self.address}/{name}"
        tool("skopeo", "copy", "--quiet", "--dest-tls-verify=false", *options, f"oci:{layout}", f"docker://{target}")
        return target

    def stored(self, digest: str) -> Path:
        """Return the file in which the registry stores a blob."""
        hexes = digest.partition(":")[2]
        return self.storage / f"docker/registry/v2/blobs/sha256/{hexes[:2]}/{hexes}/data"

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
