"""What the engines of the tests share: a network namespace, a runtime, and images that are made here."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import vc_core

#: The marks of tests that run an engine, beside those of its own programs, and of when they are run.
MARKS = (pytest.mark.root, pytest.mark.slow, pytest.mark.vm, pytest.mark.needs("busybox", "/dev/net/tun"))

#: Seconds for one command of an engine, in which a VM may boot.
TIMEOUT = 120.0


class Host:
    """Where an engine of the tests lives: a directory, and a network namespace.

    ``runtime``: the command that it calls in the place of runc. ``cgroup``: the control group of its containers.
    """

    def __init__(self, top: Path, network: str) -> None:
        self.top, self.network = top, network
        self.runtime = top / "vc-runtime"
        self.cgroup = f"vc-engine-{os.getpid()}"

    def command(self, *arguments: str | Path) -> list[str]:
        """Return a command line that runs in the network namespace, and sees the control groups of the host."""
        return ["nsenter", f"--net={self.network}", *map(str, arguments)]

    def run(self, *arguments: str | Path, given: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program there and return what it wrote. Fails the test where it fails, unless ``check`` is false."""
        done = subprocess.run(
            self.command(*arguments), input=given, capture_output=True, encoding="utf-8", timeout=TIMEOUT
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done

    def pods(self) -> list[str]:
        """Return the pods of vc_core that there are."""
        with self._root():
            return [one.id for one in vc_core.list_pods()]

    def config(self, pod: str) -> vc_core.PodConfig:
        """Return the configuration of a pod."""
        with self._root():
            return vc_core.inspect_pod(pod)

    @contextmanager
    def _root(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("VIRTCONTAINERS_ROOT", str(self.top / "vc"))
            yield

    def records(self) -> list[str]:
        """Return the containers whose records the runtime keeps, where the engine was given this directory for them."""
        return [path.name for path in (self.top / "records").glob("*/*")]

    def remove_groups(self) -> None:
        """Remove the control group of the containers, which engines leave, with those below."""
        for top in Path("/sys/fs/cgroup").glob(f"**/{self.cgroup}"):
            for folder, _, _ in os.walk(top, topdown=False):
                Path(folder).rmdir()


@contextmanager
def host(top: Path) -> Iterator[Host]:
    """Yield a place for an engine whose network namespace ends with the block."""
    holder = ["unshare", "--net", "sh", "-c", "echo; exec sleep 100000"]
    with subprocess.Popen(holder, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            made = Host(top, f"/proc/{process.pid}/ns/net")
            made.run("ip", "link", "set", "lo", "up")
            made.runtime.write_text(
                f"#!/bin/sh\nexport VIRTCONTAINERS_ROOT={top}/vc VIRTCONTAINERS_TEMPLATES=existing\n"
                f'exec {sys.executable} -m vc_runtime "$@"\n',
                encoding="utf-8",
            )
            made.runtime.chmod(0o755)
            yield made
            made.remove_groups()
        finally:
            process.kill()


@contextmanager
def daemon(command: Sequence[str], log: Path, ready: Callable[[], bool]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a daemon for the block, in the directory of its log, and enter it when the daemon is ready."""
    with (
        log.open("wb") as output,
        subprocess.Popen(command, cwd=log.parent, stdout=output, stderr=output) as process,  # where it may dump core
    ):
        try:
            wait_for(lambda: ready() or process.poll() is not None, f"{command} is not ready")
            assert process.poll() is None, log.read_text(encoding="utf-8")[-2000:]
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(TIMEOUT)


def wait_for(condition: Callable[[], bool], otherwise: str) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, otherwise
        threading.Event().wait(0.05)


def make_rootfs(path: Path) -> None:
    """Make a root file system of busybox, with the users root and bob."""
    for folder in ("bin", "etc", "tmp", "proc", "sys", "dev"):
        (path / folder).mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy(busybox, path / "bin/busybox")
    applets = subprocess.run([busybox, "--list"], capture_output=True, encoding="utf-8", check=True).stdout.split()
    for applet in applets:
        if applet != "busybox":
            (path / "bin" / applet).symlink_to("busybox")
    (path / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nbob:x:1000:1000::/:/bin/sh\n", encoding="utf-8")


def make_archive(rootfs: Path, archive: Path) -> None:
    """Write a directory into an archive, as one layer of an image."""
    with tarfile.open(archive, "w") as tar:
        tar.add(rootfs, ".")


def make_image(layer: Path, image: Path, name: str, config: Mapping[str, Any]) -> None:
    """Write the archive of an image of one layer (image-layout.md of the OCI's image specification)."""
    blobs: dict[str, bytes] = {}

    def blob(content: bytes, kind: str, **more: Any) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[digest] = content
        kind = f"application/vnd.oci.image.{kind}"
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content), **more}

    def document(value: Any) -> bytes:
        return json.dumps(value).encode()

    content = layer.read_bytes()
    described = {
        "architecture": "amd64",
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(content).hexdigest()}"]},
    }
    manifest = {
        "schemaVersion": 2,
        "config": blob(document(described), "config.v1+json"),
        "layers": [blob(gzip.compress(content, 1), "layer.v1.tar+gzip")],
    }
    index = {
        "schemaVersion": 2,
        "manifests": [blob(document(manifest), "manifest.v1+json", annotations={"io.containerd.image.name": name})],
    }
    folder = image.with_suffix(".layout")
    (folder / "blobs/sha256").mkdir(parents=True)
    (folder / "oci-layout").write_bytes(document({"imageLayoutVersion": "1.0.0"}))
    (folder / "index.json").write_bytes(document(index))
    for name, data in blobs.items():
        (folder / "blobs/sha256" / name).write_bytes(data)
    make_archive(folder, image)
