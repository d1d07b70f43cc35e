"""Brings an image to this host: from a registry, or from an archive or a layout that somebody made."""

from __future__ import annotations

import asyncio
import math
import os
import tarfile
import time
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

from vc_core.config.container import EnvVar
from vc_core.config.image import ImageReference
from vc_core.config.values import quoted
from vc_core.driver.guest import Progress
from vc_core.driver.users import host_user
from vc_core.errors import BusyError, ConfigError, ImageError, ImageNotFoundError
from vc_core.images import manifests, tools
from vc_core.images.manifests import Config, Manifest
from vc_core.results import ImageStatus
from vc_core.store.images import ImageRecord, Images
from vc_core.store.roots import Roots

#: Seconds in which a registry must send something.
_SILENCE = 120.0

#: Seconds for which this blocks to wait for another process that fetches the same, before it can be cancelled again.
_PATIENCE = 0.2

#: How the sources of an import begin that skopeo takes as they are.
_TRANSPORTS = ("oci", "oci-archive", "docker-archive")


class Fetcher:
    """Brings images to the store below ``roots``. ``progress`` is called with each step."""

    def __init__(self, roots: Roots, progress: Progress) -> None:
        self._images, self._environment, self._progress = Images(roots), roots.environment, progress

    async def pull(self, reference: ImageReference, tls_verify: bool) -> ImageStatus:
        """Fetch the present content of a name from its registry, unless it is stored already.

        Raises ConfigError, ImageError, BusyError, StorageError.
        """
        if not reference.name:
            raise ConfigError(f"image {str(reference)!r} has no name; give that of a registry, as in NAME@sha256:...")
        what = f"image {str(reference)!r} cannot be pulled"
        verify = f"tls-verify={str(tls_verify).lower()}"
        async with self._making(f"image {reference}") as making:
            self._progress(f"asking {reference.name.partition('/')[0]}", None)
            index, digest, manifest = await self._resolve(what, making, reference, verify)
            if (found := self._stored(digest)) is None:
                tools.require_room(making, manifest.size, what)
                source = f"docker://{reference.name}@{digest}"
                phrase, options = f"pulling {reference}", (f"--src-{verify}",)
                config = await self._copy(what, making, phrase, source, options, manifest.size, _SILENCE)
                await self._store(what, making, digest, index, config, reference)
            else:
                self._images.name(reference, found.digest)
        return self._images.find(reference)

    async def import_image(self, source: str, name: ImageReference | None) -> ImageStatus:
        """Store an image that is on this host already, as an archive or a layout, and give it a name or none.

        Raises ConfigError, ImageError, BusyError, StorageError.
        """
        source = _located(source)
        what = f"image {source!r} cannot be imported"
        async with self._making(f"image {source}") as making:
            config = await self._copy(what, making, f"importing {source}", source)
            digest, _ = manifests.read_layout(what, making / "layout")
            if self._stored(digest) is None:
                await self._store(what, making, digest, "", config, name)
            elif name is not None:
                self._images.name(name, digest)
        return self._images.find(ImageReference("", digest=digest))

    @asynccontextmanager
    async def _making(self, what: str) -> AsyncIterator[Path]:
        """Yield an empty directory, once no other process fetches the same."""
        with ExitStack() as stack:
            while True:
                try:
                    making = stack.enter_context(self._images.making(what, _PATIENCE))
                    break
                except BusyError:
                    self._progress("waiting for another process that fetches it", None)
                    await asyncio.sleep(0)  # here it may be cancelled
            yield making

    def _stored(self, digest: str) -> ImageStatus | None:
        try:
            return self._images.find(ImageReference("", digest=digest))
        except ImageNotFoundError:
            return None

    async def _resolve(
        self, what: str, making: Path, reference: ImageReference, verify: str
    ) -> tuple[str, str, Manifest]:
        """Return the digest of a reference's index, or "", and the digest and the manifest of its image for this host.

        Both documents have the digests by which they were asked for.
        """
        first = await self._manifest(what, making, _source(reference), reference.digest, verify)
        digest, manifest = first
        if not manifest.manifests:
            return "", digest, manifest
        chosen = manifests.choose(what, manifest)
        source = f"docker://{reference.name}@{chosen}"
        return digest, *(await self._manifest(what, making, source, chosen, verify))

    async def _manifest(self, what: str, making: Path, source: str, wanted: str, verify: str) -> tuple[str, Manifest]:
        command = ("skopeo", "inspect", f"--{verify}", "--raw", source)
        data = await tools.run(what, making, self._environment, *command, look=_limit(what, _SILENCE))
        digest = manifests.digest_of(data)
        if wanted and digest != wanted:
            raise ImageError(f"{what}: the registry sent {digest} for {wanted}")
        return digest, manifests.read_manifest(what, data)

    async def _copy(
        self,
        what: str,
        making: Path,
        phrase: str,
        source: str,
        options: Sequence[str] = (),
        size: int = 0,
        silence: float = math.inf,
    ) -> Config:
        """Copy an image into a layout below ``making``; skopeo compares all digests. Return its configuration.

        ``size``: bytes that will come, 0 if that is not known. ``silence``: seconds in which something must come.
        """
        layout = making / "layout"
        best, changed = 0, time.monotonic()

        def look() -> None:
            nonlocal best, changed
            if (now := _bytes_below(layout)) > best:
                best, changed = now, time.monotonic()
            elif time.monotonic() - changed > silence:
                raise ImageError(f"{what}: nothing came for {silence:g} s, after {best} bytes")
            total = f" of {size / 1e6:.1f}" if size else ""
            self._progress(f"{phrase}: {best / 1e6:.1f}{total} MB", min(1.0, best / size) if size else None)

        command = ("skopeo", "copy", "--quiet", *options, source, f"oci:{layout}:image")
        await tools.run(what, making, self._environment, *command, look=look)
        return manifests.read_layout(what, layout)[1]

    async def _store(
        self, what: str, making: Path, digest: str, index: str, config: Config, name: ImageReference | None
    ) -> None:
        """Unpack the layout below ``making`` and add the image to the store."""
        self._progress("unpacking", None)
        # Of two directories, because a layer may make umoci remove the one above the root (a whiteout of "..").
        root_fs, settings = making / "unpacked/rootfs", config.settings
        root_fs.parent.mkdir(mode=0o700)
        rootless = () if host_user() == 0 else ("--rootless",)
        command = ("umoci", "raw", "unpack", *rootless, "--image", f"{making / 'layout'}:image", str(root_fs))
        await tools.run(what, making, self._environment, *command)
        record = ImageRecord(
            digest=digest,
            index=index,
            size=_bytes_below(root_fs),
            pulled_at=time.time(),
            entrypoint=tuple(settings.Entrypoint or ()),
            cmd=tuple(settings.Cmd or ()),
            env=tuple(filter(_is_variable, settings.Env or ())),
            user=settings.User or "",
            work_dir=settings.WorkingDir or "",
            stop_signal=settings.StopSignal or "",
        )
        self._images.publish(root_fs, record, name)


def _source(reference: ImageReference) -> str:
    """Return what skopeo takes for a reference: it refuses a tag beside a digest."""
    return f"docker://{ImageReference(reference.name, '' if reference.digest else reference.tag, reference.digest)}"


def _is_variable(text: str) -> bool:
    try:
        EnvVar.parse(text)
    except ConfigError:
        return False  # as docker leaves out a name without a value
    return True


def _limit(what: str, seconds: float) -> Callable[[], None]:
    """Return a function that raises ImageError when it is called after some seconds."""
    end = time.monotonic() + seconds

    def look() -> None:
        if time.monotonic() > end:
            raise ImageError(f"{what}: no answer came in {seconds:g} s")

    return look


def _bytes_below(directory: Path) -> int:
    """Return the bytes of all files below a directory, whatever is added or removed meanwhile."""
    total = 0
    for top, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.lstat(os.path.join(top, name)).st_size  # noqa: PTH118
            except OSError:
                continue
    return total


def _located(source: str) -> str:
    """Return what skopeo takes for an archive or a layout. Raises ConfigError."""
    transport, colon, rest = source.partition(":")
    if colon and transport in _TRANSPORTS and rest:
        return f"{transport}:{os.path.abspath(rest)}"  # noqa: PTH100 # it may end with a tag
    path = Path(source).absolute()
    if colon:
        raise ConfigError(
            f"image source {quoted(source)} has a colon; give TRANSPORT:PATH[:NAME], in which TRANSPORT is one of "
            f"{', '.join(_TRANSPORTS)}, or rename it"
        )
    try:
        if path.is_dir():
            if not (path / "oci-layout").is_file():
                raise ConfigError(f"directory {quoted(source)} is no OCI layout: it has no file oci-layout")
            return f"oci:{path}"
        with tarfile.open(path) as archive:
            for member in archive:
                if name := {"manifest.json": "docker-archive", "oci-layout": "oci-archive"}.get(member.name):
                    return f"{name}:{path}"
    except FileNotFoundError as error:
        raise ConfigError(f"image source {quoted(source)} does not exist; virtc image pull fetches names") from error
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise ConfigError(
            f"image source {quoted(source)} is no archive; give one of docker save, podman save or skopeo, or an OCI "
            "layout"
        ) from error
    except OSError as error:
        raise ConfigError(f"image source {quoted(source)} cannot be read: {error.strerror or error}") from error
    raise ConfigError(f"{quoted(source)} is neither an archive of docker save nor an OCI archive")
