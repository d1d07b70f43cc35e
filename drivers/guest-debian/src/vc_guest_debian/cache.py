"""The cache of built guests: what is in it is whole, whoever was interrupted.

::

    debian/lock                   held by the one that builds
    debian/work-XXXXXXXX/         what a builder works in; of a dead one when nobody holds the lock
    debian/downloads/             package files that the guests below were made from
    debian/apt/                   apt's configuration, and lists of our own where the host has none
    debian/guests/CONTENT/        kernel, initramfs, manifest.json
    debian/requests/REQUEST       symbolic link to the guest that serves the request
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vc_core.errors import GuestError
from vc_core.guest import GuestImage

_LOCK_DEADLINE = 3600.0  #: seconds; another builder may have a slow network

_FULL = 1 << 20  #: bytes that are free when there is no space left, for what we write
_SPACE_NEEDED = "while a guest is built it takes 600 MiB"

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class CachedGuest:
    """One built guest: its content key, its directory and what its manifest says."""

    key: str
    directory: Path
    manifest: Mapping[str, object]

    @property
    def package_files(self) -> tuple[str, ...]:
        """Return the names of the package files that it was made from."""
        files = self.manifest["package_files"]
        return tuple(map(str, files)) if isinstance(files, list) else ()

    def image(self) -> GuestImage:
        """Return it as a hypervisor boots it."""
        params = self.manifest["kernel_params"]
        return GuestImage(
            self.directory / "kernel",
            self.directory / "initramfs",
            tuple(map(str, params)) if isinstance(params, list) else (),
        )


class Cache:
    """The guests of this driver below one cache directory. Making the object touches nothing."""

    def __init__(self, cache_dir: Path) -> None:
        self._root = cache_dir / "debian"
        self.apt = self._root / "apt"
        self.downloads = self._root / "downloads"
        self._guests = self._root / "guests"
        self._requests = self._root / "requests"

    def find(self, request_key: str) -> CachedGuest | None:
        """Return the guest that serves a request if it is whole, as far as sizes tell, else None."""
        try:
            return self._load(self._guests / (self._requests / request_key).readlink().name)
        except OSError:
            return None

    def stamp(self, request_key: str) -> int | None:
        """Return a number that changes whenever a guest is built for a request; None if there was none."""
        try:
            return (self._requests / request_key).lstat().st_mtime_ns
        except OSError:
            return None

    def guests(self) -> list[CachedGuest]:
        """Return every whole guest."""
        try:
            directories = sorted(self._guests.iterdir())
        except OSError:
            return []
        return [guest for directory in directories if (guest := self._load(directory))]

    @staticmethod
    def _load(directory: Path) -> CachedGuest | None:
        """Return the guest in a directory, or None if it is not whole."""
        try:
            manifest = json.loads((directory / MANIFEST).read_bytes())
            for name, size in manifest["sizes"].items():
                if (directory / name).stat().st_size != size:
                    return None
            return CachedGuest(directory.name, directory, manifest)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    @contextlib.asynccontextmanager
    async def building(self, waiting: Callable[[], None]) -> AsyncIterator[Path]:
        """Yield a fresh directory to build in, as the only builder; it is removed afterwards.

        What dead builders left and guests that are not whole are removed first.

        ``waiting`` is called when another builder has to end first.
        """
        for directory in (self.apt, self.downloads, self._guests, self._requests):
            directory.mkdir(parents=True, exist_ok=True)
        lock = await _lock(self._root / "lock", waiting)
        try:
            damaged = [guest for guest in self._guests.iterdir() if self._load(guest) is None]
            for remains in (*self._root.glob("work-*"), *damaged):
                shutil.rmtree(remains, ignore_errors=True)
            work_dir = Path(tempfile.mkdtemp(prefix="work-", dir=self._root))
            try:
                yield work_dir
            except (OSError, GuestError) as error:
                # Not every tool says so when there is no space.
                if shutil.disk_usage(work_dir).free < _FULL:
                    raise GuestError(f"no space is left in {self._root}: {_SPACE_NEEDED}") from error
                raise
            finally:
                shutil.rmtree(work_dir, ignore_errors=True)
        finally:
            os.close(lock)

    def publish(self, work_dir: Path, request_key: str, content_key: str, built: Path) -> CachedGuest:
        """Make the guest in the directory ``built`` the one that serves a request. Only for the builder."""
        target = self._guests / content_key
        if not target.exists():
            built.rename(target)
        pointer = work_dir / "pointer"
        pointer.symlink_to(Path("..", "guests", content_key))
        pointer.rename(self._requests / request_key)
        guest = self._load(target)
        if guest is None:
            raise GuestError(f"the guest just built in {target} is not whole: is something else writing there?")
        return guest

    def prune_downloads(self) -> None:
        """Remove the package files that no guest was made from. Only for the builder."""
        wanted = {name for guest in self.guests() for name in guest.package_files}
        for file in self.downloads.iterdir():
            if file.name not in wanted:
                file.unlink()

    def remove(self, key: str) -> None:
        """Remove a guest and what points to it. Raises GuestError when there is none with this content key."""
        if key not in (guest.key for guest in self.guests()):
            raise GuestError(f"there is no guest {key!r} in {self._guests}")
        grave = self._root / f"work-{secrets.token_hex(4)}"
        try:
            for pointer in self._requests.iterdir():
                if pointer.readlink().name == key:
                    pointer.unlink()
            (self._guests / key).rename(grave)  # at once, so that nobody finds half of it
            shutil.rmtree(grave)
        except OSError as error:
            raise GuestError(f"cannot remove the guest {key}: {error}") from error


def list_guests(cache_dir: Path) -> list[CachedGuest]:
    """Return every guest that this driver built into a cache directory."""
    return Cache(cache_dir).guests()


def remove_guest(cache_dir: Path, key: str) -> None:
    """Remove the guest with a content key from a cache directory; running VMs keep what they booted.

    Raises GuestError when there is none.
    """
    Cache(cache_dir).remove(key)


async def _lock(path: Path, waiting: Callable[[], None]) -> int:
    """Return a descriptor that holds the exclusive lock on a file; closing it lets go.

    Waiting is done by a thread of its own, because flock(2) cannot be awaited: it ends when it gets the lock, and gives
    it back when nobody waits for it any more.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return descriptor
    waiting()
    loop = asyncio.get_running_loop()
    locked = loop.create_future()

    def hand_over() -> None:
        if locked.cancelled():
            os.close(descriptor)
        else:
            locked.set_result(None)

    def wait() -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            loop.call_soon_threadsafe(hand_over)
        except RuntimeError:  # the loop is closed: nobody waits
            os.close(descriptor)

    threading.Thread(target=wait, name="guest-lock", daemon=True).start()
    try:
        async with asyncio.timeout(_LOCK_DEADLINE):
            await locked
    except BaseException as error:
        if locked.done() and not locked.cancelled():
            os.close(descriptor)
        if isinstance(error, TimeoutError):
            raise GuestError(f"another build holds {path} for more than {_LOCK_DEADLINE:g} seconds") from None
        raise
    return descriptor
