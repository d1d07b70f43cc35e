"""The cache of built guests: what is in it is whole, whoever was interrupted.

::

    debian/lock                   held by the one that builds
    debian/work-XXXXXXXX/         what a builder works in; of a dead one when nobody holds the lock
    debian/downloads/             package files that the guests below were made from
    debian/apt/                   what apt keeps: the lists of packages, where the host has none
    debian/guests/CONTENT/        kernel, initramfs, manifest.json
    debian/requests/REQUEST       symbolic link to the guest that serves the request
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from vc_core.driver import GuestImage
from vc_core.errors import GuestError
from vc_guest_debian.tools import run

_LOCK_TIMEOUT = 3600.0  #: seconds; another builder may have a slow network

_FULL = 1 << 20  #: bytes that are free when there is no space left, for what we write

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class CachedGuest:
    """One built guest: its content key, where it is, for which agent, from which package files; ``size`` in bytes."""

    key: str
    directory: Path
    agent: str
    package_files: tuple[str, ...]
    kernel_params: tuple[str, ...]
    size: int

    def image(self) -> GuestImage:
        """Return it as a hypervisor boots it."""
        return GuestImage(self.directory / "kernel", self.directory / "initramfs", self.kernel_params)


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
            sizes = manifest["sizes"]
            if any((directory / name).stat().st_size != size for name, size in sizes.items()):
                return None
            return CachedGuest(
                key=directory.name,
                directory=directory,
                agent=manifest["agent"],
                package_files=tuple(manifest["package_files"]),
                kernel_params=tuple(manifest["kernel_params"]),
                size=sum(sizes.values()),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    @contextlib.asynccontextmanager
    async def building(self, waiting: Callable[[], None]) -> AsyncIterator[Path]:
        """Yield a fresh directory to build in, as the only builder; it is removed afterwards.

        What dead builders left and guests that are not whole are removed first. ``waiting`` is called when another
        builder has to end before. Raises GuestError.
        """
        for directory in (self.apt, self.downloads, self._guests, self._requests):
            directory.mkdir(parents=True, exist_ok=True)
        async with _locked(self._root / "lock", waiting):
            damaged = [guest for guest in self._guests.iterdir() if self._load(guest) is None]
            for remains in (*self._root.glob("work-*"), *damaged):
                shutil.rmtree(remains, ignore_errors=True)
            work_dir = Path(tempfile.mkdtemp(prefix="work-", dir=self._root))
            try:
                yield work_dir
            except (OSError, GuestError) as error:
                # Not every tool says so when there is no space.
                if shutil.disk_usage(work_dir).free < _FULL:
                    raise GuestError(f"no space is left in {self._root}; a build takes some 600 MiB") from error
                raise
            finally:
                shutil.rmtree(work_dir, ignore_errors=True)

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
            shutil.rmtree(grave, ignore_errors=True)
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


@contextlib.asynccontextmanager
async def _locked(path: Path, waiting: Callable[[], None]) -> AsyncIterator[None]:
    """Hold the exclusive lock on a file; ``waiting`` is called when another process has it.

    flock(2) cannot be awaited, but flock(1) can, and the lock that it gets belongs to the descriptor that we share.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            await run(
                ["flock", "--exclusive", str(descriptor)],
                purpose="wait for another build", timeout=_LOCK_TIMEOUT, cwd=path.parent, pass_fds=[descriptor],
            )  # fmt: skip
        yield
    finally:
        os.close(descriptor)
