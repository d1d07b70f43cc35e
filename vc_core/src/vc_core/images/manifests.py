"""Reads the documents of an image: the index, the manifest and the configuration, all written by others.

The formats are those of the OCI image specification, and of docker, whose fields have the same names.
"""

from __future__ import annotations

import hashlib
import platform
import re
from pathlib import Path
from typing import TypeVar

import msgspec

from vc_core.config.signals import number
from vc_core.decoding import decode_json
from vc_core.errors import ConfigError, ImageError
from vc_core.store import files

#: What Go calls the processors that Python's platform.machine() names.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class _Platform(msgspec.Struct):
    architecture: str = ""
    os: str = ""


class _Descriptor(msgspec.Struct):
    digest: str
    size: int
    platform: _Platform | None = None


class Manifest(msgspec.Struct):
    """An index, which names a manifest for each platform, or a manifest, which names a configuration and layers."""

    schemaVersion: int = 0
    manifests: list[_Descriptor] = []
    config: _Descriptor | None = None
    layers: list[_Descriptor] = []

    @property
    def size(self) -> int:
        """The bytes of all layers, as they claim."""
        return sum(layer.size for layer in self.layers)


class _Settings(msgspec.Struct):
    # Each may be null.
    Entrypoint: list[str] | None = None
    Cmd: list[str] | None = None
    Env: list[str] | None = None
    User: str | None = None
    WorkingDir: str | None = None
    StopSignal: str | None = None


class Config(msgspec.Struct):
    """What an image configures of the containers that are made of it."""

    architecture: str = ""
    os: str = ""
    config: _Settings | None = None

    @property
    def settings(self) -> _Settings:
        """The settings, which an image may leave out."""
        return self.config or _Settings()


_T = TypeVar("_T")


def own_architecture() -> str:
    """Return the architecture of this host, and so of the guests of its pods, as images name it."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def digest_of(data: bytes) -> str:
    """Return the digest that names a document."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def read_manifest(what: str, data: bytes) -> Manifest:
    """Return an index or a manifest; ``what`` names the image in errors. Raises ImageError."""
    manifest = _decode(what, data, Manifest)
    if manifest.schemaVersion != 2:
        raise ImageError(f"{what} has a manifest of schema {manifest.schemaVersion}; only schema 2 can be verified")
    if any(not _DIGEST.fullmatch(one.digest) or one.size < 0 for one in [*manifest.manifests, *manifest.layers]):
        raise ImageError(f"{what} has a broken manifest: a part of it has no valid digest and size")
    return manifest


def choose(what: str, index: Manifest) -> str:
    """Return the digest of the manifest in an index that is for this host. Raises ImageError."""
    wanted = own_architecture()
    found = [one for one in index.manifests if one.platform is not None]
    for one in found:
        assert one.platform is not None
        if (one.platform.os, one.platform.architecture) == ("linux", wanted):
            return one.digest
    names = sorted({f"{one.platform.os}/{one.platform.architecture}" for one in found if one.platform})
    raise ImageError(f"{what} is not made for linux/{wanted}, but for {', '.join(names[:20]) or 'no platform'}")


def read_layout(what: str, layout: Path) -> tuple[str, Config]:
    """Return the digest and the configuration of the only image in an OCI layout that skopeo wrote.

    Raises ImageError, StorageError.
    """
    index = read_manifest(what, _file(what, layout / "index.json"))
    if len(index.manifests) != 1:
        raise ImageError(f"{what} was copied as {len(index.manifests)} images; choose one of them by its name")
    [one] = index.manifests
    manifest = read_manifest(what, _blob(what, layout, one.digest))
    if manifest.config is None or not _DIGEST.fullmatch(manifest.config.digest):
        raise ImageError(f"{what} has no configuration; it is not an image of a container")
    config = _decode(what, _blob(what, layout, manifest.config.digest), Config)
    _check(what, config)
    return one.digest, config


def _check(what: str, config: Config) -> None:
    """Refuse an image of which no container could be made. Raises ImageError."""
    if config.os not in ("", "linux") or config.architecture not in ("", own_architecture()):
        raise ImageError(
            f"{what} is made for {config.os}/{config.architecture}, but the guests of this host are "
            f"linux/{own_architecture()}; choose another image"
        )
    if config.settings.StopSignal:
        try:
            number(config.settings.StopSignal)
        except ConfigError as error:
            raise ImageError(f"{what} has a stop signal that does not exist: {error}") from error


def _blob(what: str, layout: Path, digest: str) -> bytes:
    data = _file(what, layout / "blobs" / digest.replace(":", "/"))
    if digest_of(data) != digest:
        raise ImageError(f"{what} is broken: what it calls {digest} has the digest {digest_of(data)}")
    return data


def _file(what: str, path: Path) -> bytes:
    try:
        return files.read_whole(path)
    except FileNotFoundError as error:
        raise ImageError(f"{what} is broken: {path.name!r} is missing in it") from error


def _decode(what: str, data: bytes, wanted: type[_T]) -> _T:
    try:
        return decode_json(data, wanted)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ImageError(f"{what} is broken: its {wanted.__name__.lower()} cannot be read: {error}") from error
