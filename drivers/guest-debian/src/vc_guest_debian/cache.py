"""The cache of built guests. A guest in it is complete, even after a builder was interrupted.

Only its owner can enter its directories, and a process of another user refuses it: who can write to a kernel in it
can run code in every guest.

::

    debian/lock                   locked by the process that builds
    debian/work-XXXXXXXX/         its working directory; a remainder if the file is not locked
    debian/downloads/             package files that the guests below were made from
    debian/apt/                   apt's files: the lists of packages if the host has none
    debian/guests/CONTENT/        kernel, initramfs, manifest.json; "verified": see integrity.py
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
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

from vc_core.driver import GuestImage, frozen, open_regular, read_regular
from vc_core.errors import GuestError
from vc_guest_debian import integrity
from vc_guest_debian.threads import in_thread
from vc_guest_debian.tools import run

_LOCK_TIMEOUT = 3600.0  #: seconds; another builder may have a slow network

_FULL = 1 << 20  #: bytes: with fewer free, a failed build is taken to have run out of space

MANIFEST = "manifest.json"

FILES = ("kernel", "initramfs")  #: of every guest


@frozen
class CachedGuest:
    """One built guest: its content key, directory, agent, package files, and its files' hashes; ``size`` in bytes."""

    key: str
    directory: Path
    agent: str
    package_files: tuple[str, ...]
    kernel_params: tuple[str, ...]
    sha256: Mapping[str, str]
    size: int

    def image(self) -> GuestImage:
        """Return the kernel, initramfs and kernel parameters that a hypervisor boots."""
        return GuestImage(self.directory / "kernel", self.directory / "initramfs", self.kernel_params)


class Cache:
    """The guests of this driver below one cache directory. Making the object does no I/O."""

    def __init__(self, cache_dir: Path) -> None:
        self._root = cache_dir / "debian"
        self.apt = self._root / "apt"
        self.downloads = self._root / "downloads"
        self._guests = self._root / "guests"
        self._requests = self._root / "requests"

    def find(self, request_key: str) -> CachedGuest | None:
        """Return the guest for a request if all its files are present with the recorded content, else None.

        Blocks: what was not verified since the host booted is read. Raises GuestError for another user's cache.
        """
        try:
            for directory in (self._root, self._guests, self._requests):
                integrity.require_private(directory)
            return self._verified(self._guests / (self._requests / request_key).readlink().name)
        except OSError:
            return None

    def stamp(self, request_key: str) -> int | None:
        """Return a number that changes whenever a guest is built for a request; None if there was none."""
        try:
            return (self._requests / request_key).lstat().st_mtime_ns
        except OSError:
            return None

    def guests(self) -> list[CachedGuest]:
        """Return every guest that is complete."""
        try:
            directories = sorted(self._guests.iterdir())
        except OSError:
            return []
        return [guest for directory in directories if (guest := self._load(directory))]

    def _verified(self, directory: Path) -> CachedGuest | None:
        """Return the guest in a directory, or None if its files are not those that were built. Raises OSError."""
        guest = self._load(directory)
        return guest if guest and integrity.verify(directory, guest.sha256) else None

    def _damaged(self) -> list[Path]:
        return [directory for directory in self._guests.iterdir() if self._verified(directory) is None]

    @staticmethod
    def _load(directory: Path) -> CachedGuest | None:
        """Return the guest in a directory, or None if it is not complete, or another user can write to it."""
        try:
            for path in (directory, *map(directory.joinpath, (MANIFEST, *FILES))):
                integrity.require_private(path)
            manifest = json.loads(read_regular(directory / MANIFEST, integrity.RECORD_MAX))
            sizes = {name: manifest["sizes"][name] for name in FILES}
            if any((directory / name).stat().st_size != size for name, size in sizes.items()):
                return None
            return CachedGuest(
                key=directory.name,
                directory=directory,
                agent=manifest["agent"],
                package_files=tuple(manifest["package_files"]),
                kernel_params=tuple(manifest["kernel_params"]),
                sha256={name: manifest["sha256"][name] for name in FILES},
                size=sum(sizes.values()),
            )
        except (OSError, GuestError, ValueError, KeyError, TypeError, AttributeError):
            return None

    @contextlib.asynccontextmanager
    async def building(self, waiting: Callable[[], None]) -> AsyncIterator[Path]:
        """Lock the cache and yield a new directory to build in, which is removed afterwards.

        Directories of builders that were killed, and guests that are not complete, are removed first. ``waiting`` is
        called if another process has the lock. Raises GuestError.
        """
        self._root.parent.mkdir(parents=True, exist_ok=True)
        for directory in (self._root, self.apt, self.downloads, self._guests, self._requests):
            directory.mkdir(mode=0o700, exist_ok=True)
            integrity.require_private(directory)
        async with _locked(self._root / "lock", waiting):
            damaged = await asyncio.to_thread(self._damaged)
            for remains in (*self._root.glob("work-*"), *damaged):
                await _remove_tree(remains)
            work_dir = Path(tempfile.mkdtemp(prefix="work-", dir=self._root))
            try:
                yield work_dir
            except (OSError, GuestError) as error:
                # Not every tool reports that there is no space.
                if shutil.disk_usage(work_dir).free < _FULL:
                    raise GuestError(f"no space is left in {self._root}; a build takes some 600 MiB") from error
                raise
            finally:
                await _remove_tree(work_dir)

    def publish(self, work_dir: Path, request_key: str, content_key: str, built: Path) -> CachedGuest:
        """Move the guest in the directory ``built`` into the cache, as the one for a request. Only in :meth:`building`.

        Raises GuestError, OSError.
        """
        for name in (MANIFEST, *FILES):
            (built / name).chmod(0o644)
        built.rename(target := self._guests / content_key)
        if guest := self.serve(work_dir, request_key, content_key):
            return guest
        raise GuestError(f"the guest just built in {target} is not complete: does another program write there?")

    def serve(self, work_dir: Path, request_key: str, content_key: str) -> CachedGuest | None:
        """Make the guest with a content key the one for a request, if it is there. Only in :meth:`building`.

        Raises OSError.
        """
        guest = self._load(self._guests / content_key)
        if guest:
            pointer = work_dir / "pointer"
            pointer.symlink_to(Path("..", "guests", content_key))
            pointer.rename(self._requests / request_key)
        return guest

    def prune_downloads(self) -> None:
        """Remove the package files that no guest was made from. Only in :meth:`building`."""
        wanted = {name for guest in self.guests() for name in guest.package_files}
        for file in self.downloads.iterdir():
            if file.name not in wanted:
                file.unlink()

    def remove(self, key: str) -> None:
        """Remove a guest and the links to it, and what builders that were killed have left.

        Raises GuestError when there is none with this content key.
        """
        if key not in (guest.key for guest in self.guests()):
            raise GuestError(f"there is no guest {key!r} in {self._guests}")
        removed = self._root / f"work-{secrets.token_hex(4)}"
        try:
            for pointer in self._requests.iterdir():
                if pointer.readlink().name == key:
                    pointer.unlink()
            (self._guests / key).rename(removed)  # atomic, so that no process finds a part of it
            shutil.rmtree(removed, ignore_errors=True)
            self._sweep()
        except OSError as error:
            raise GuestError(f"cannot remove the guest {key}: {error}") from error

    def _sweep(self) -> None:
        """Remove the directories of builders that were killed, unless another one is at work. Raises OSError."""
        descriptor = open_regular(self._root / "lock", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for remains in self._root.glob("work-*"):
                shutil.rmtree(remains, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(descriptor)


async def _remove_tree(directory: Path) -> None:
    """Remove a directory in a thread: on a busy disk, thousands of files of a build take seconds."""
    await in_thread(lambda: shutil.rmtree(directory, ignore_errors=True))


@contextlib.asynccontextmanager
async def _locked(path: Path, waiting: Callable[[], None]) -> AsyncIterator[None]:
    """Hold the exclusive lock on a file; ``waiting`` is called when another process has it. Raises GuestError, OSError.

    flock(2) cannot be awaited, but the program flock(1) can. Its lock belongs to the open file, which it inherits from
    this process, and so outlives the program.
    """
    descriptor = open_regular(path, os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            await run(
                ["flock", "--exclusive", str(descriptor)],
                purpose="wait for another build",
                timeout=_LOCK_TIMEOUT,
                cwd=path.parent,
                pass_fds=[descriptor],
            )
        yield
    finally:
        os.close(descriptor)
