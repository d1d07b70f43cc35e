"""The images of containers: each is a directory below the state root with the digest of its manifest for a name.

It holds the unpacked root file system and, written last, a record. It gets its name as a whole, and is never changed
after that. A file beside them has the names of all images.

An image is removed only while no pod has it. Who is about to store a pod with an image holds a *lease* on it, a shared
flock on its directory; who removes one holds an exclusive one while it looks for the digest in the pods' files. So
neither misses the other, and the death of either leaves nothing.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from vc_core import failpoints
from vc_core.config.image import ImageReference
from vc_core.config.values import similar_name
from vc_core.errors import BusyError, ImageError, ImageNotFoundError, StateError, StorageError, VCError
from vc_core.results import ImageStatus
from vc_core.store import files, locks
from vc_core.store.records import SCHEMA, decode, encode
from vc_core.store.roots import Roots, private_directory

#: Seconds that a change of the names waits for another one.
_LOCK_TIMEOUT = 10.0

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

#: The files of an image, the file of all names, and how the names begin of what is made and what is removed.
_RECORD, _ROOT, _NAMES, _LOCK = "image.json", "rootfs", "names.json", ".lock"
_MAKING, _MAKING_LOCK, _REMOVED = ".making-", ".lock-", ".removed-"


class ImageRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is recorded of an image; see :class:`ImageStatus`.

    ``index``: the digest of the index that named it when it was pulled, "" for none.
    """

    schema: int = SCHEMA
    digest: str
    index: str = ""
    size: int
    pulled_at: float
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    user: str = ""
    work_dir: str = ""
    stop_signal: str = ""


class _Names(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file of all names: the digest of each."""

    schema: int = SCHEMA
    names: dict[str, str] = {}


class Images:
    """The images below ``roots``. Methods block."""

    def __init__(self, roots: Roots) -> None:
        self._roots = roots
        self._top = roots.state / "images"

    def _directory(self) -> Path:
        private_directory(self._roots.state)
        return private_directory(self._top)

    # -- look-ups --------------------------------------------------------------------------------------------------

    def root(self, digest: str) -> Path:
        """Return where the root file system of an image is. Raises StorageError for what is no digest."""
        return self._place(digest) / _ROOT

    def _place(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise StorageError(f"{digest!r} is not the digest of an image")
        return self._top / digest.replace(":", "-")

    def all(self) -> list[ImageStatus]:
        """Return all images that are readable, sorted by their names. Raises StorageError."""
        found = []
        names, pods = self._names(), self._pods()
        for digest in self._digests():
            with suppress(StorageError, ImageNotFoundError):
                found.append(self._status(self._read(digest), names, pods))
        return sorted(found, key=lambda one: (one.references, one.digest))

    def find(self, reference: ImageReference) -> ImageStatus:
        """Return an image by its name or digest. Raises ImageNotFoundError, ImageError, StorageError."""
        return self._status(self._read(self._digest(reference)), self._names(), self._pods())

    @contextmanager
    def lease(self, reference: ImageReference) -> Iterator[ImageStatus]:
        """Yield an image, which nobody removes meanwhile. Raises ImageNotFoundError, ImageError, StorageError."""
        digest = self._digest(reference)
        fd = self._lock(digest, fcntl.LOCK_SH)
        try:
            yield self._status(self._read(digest), self._names(), {})
        finally:
            os.close(fd)

    def _lock(self, digest: str, how: int) -> int:
        """Return the directory of an image, locked; the caller closes it.

        Raises ImageNotFoundError, BlockingIOError, StorageError.
        """
        place = self._place(digest)
        try:
            fd = os.open(place, _DIRECTORY)
            try:
                fcntl.flock(fd, how)
                if os.path.samestat(os.fstat(fd), place.lstat()):  # else it was removed meanwhile
                    return fd
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)
        except FileNotFoundError:
            pass
        except BlockingIOError:
            raise
        except OSError as error:
            raise StorageError(f"{str(place)!r} cannot be opened: {error.strerror}") from error
        raise _not_found(digest)

    def _digest(self, reference: ImageReference) -> str:
        """Return the digest of the image that a reference names.

        Raises ImageNotFoundError, ImageError, StorageError.
        """
        if not reference.digest:
            names = self._names()
            if (found := names.get(str(reference))) is None:
                raise _not_found(str(reference), similar_name(str(reference), names))
            return found
        every = self._digests()
        if reference.digest in every:
            return reference.digest
        if not reference.name:
            matching = [one for one in every if one.startswith(reference.digest)]
            if len(matching) > 1:
                raise ImageError(
                    f"{len(matching)} images have a digest that begins with {reference.digest!r}; give more"
                )
            if matching:
                return matching[0]
        for digest in every:
            with suppress(StorageError, ImageNotFoundError):
                if self._read(digest).index == reference.digest:
                    return digest
        raise _not_found(str(reference))

    def _digests(self) -> list[str]:
        try:
            names = [path.name.replace("-", ":", 1) for path in self._top.iterdir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StorageError(f"{str(self._top)!r} cannot be read: {error.strerror}") from error
        return sorted(name for name in names if _DIGEST.fullmatch(name))

    def _read(self, digest: str) -> ImageRecord:
        path = self._place(digest) / _RECORD
        try:
            return decode(files.read_whole(path), str(path), ImageRecord)
        except FileNotFoundError:
            raise _not_found(digest) from None

    def _names(self) -> dict[str, str]:
        path = self._top / _NAMES
        try:
            return decode(files.read_whole(path), str(path), _Names).names
        except FileNotFoundError:
            return {}

    def _pods(self) -> dict[str, list[str]]:
        """Return the pods that have each digest, from the bytes of their files, which may be broken or newer.

        Raises StorageError for a file that cannot be read: it may name any image.
        """
        found: dict[str, list[str]] = {}
        try:
            pods = sorted((self._roots.state / "pods").iterdir())
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise StorageError(f"{error.filename!r} cannot be read: {error.strerror}") from error
        for pod in pods:
            with suppress(FileNotFoundError, NotADirectoryError):
                for digest in set(re.findall(rb"sha256:[0-9a-f]{64}", files.read_whole(pod / "config.json"))):
                    found.setdefault(digest.decode(), []).append(pod.name)
        return found

    def _status(self, record: ImageRecord, names: dict[str, str], pods: dict[str, list[str]]) -> ImageStatus:
        fields: dict[str, Any] = msgspec.structs.asdict(record)
        del fields["schema"], fields["index"]
        references = tuple(sorted(name for name, digest in names.items() if digest == record.digest))
        return ImageStatus(
            **fields,
            references=references,
            pods=tuple(pods.get(record.digest, ())),
            root_fs=str(self.root(record.digest)),
        )

    # -- changes ---------------------------------------------------------------------------------------------------

    @contextmanager
    def making(self, what: str, patience: float = 0.0) -> Iterator[Path]:
        """Yield an empty directory in which an image is made; nothing of it is left afterwards.

        ``what`` is made by one process at a time. What makers that were killed have left is removed first. Raises
        BusyError when another process still makes it after ``patience`` seconds, StorageError.
        """
        self.sweep()
        top, key = self._directory(), hashlib.sha256(what.encode()).hexdigest()
        making = top / f"{_MAKING}{key}"
        lock = locks.acquire(top / f"{_MAKING_LOCK}{key}", patience, f"{what} is fetched by another process")
        try:
            _discard(making)
            making.mkdir(mode=0o700)
            failpoints.reach("images.make.begun")
            yield making
        except VCError:
            raise
        except OSError as error:
            raise StorageError(f"{what} cannot be stored in {str(top)!r}: {error.strerror}") from error
        finally:
            with suppress(StorageError):
                _discard(making)
            with suppress(OSError):
                lock.unlink()
            lock.release()

    def publish(self, root_fs: Path, record: ImageRecord, reference: ImageReference | None) -> None:
        """Add an image, unless it is there, and let it have a name, or none.

        ``root_fs``: its files, in a directory of :meth:`making`. Raises ImageError, StorageError.
        """
        if root_fs.is_symlink() or not root_fs.is_dir():
            raise ImageError(f"image {record.digest} has a root that is no directory")
        whole = root_fs.with_name("whole")
        place = self._place(record.digest)
        try:
            whole.mkdir(mode=0o700)
            root_fs.rename(whole / _ROOT)
            _write_back(whole)
            files.write_atomic(whole, _RECORD, encode(record))
            failpoints.reach("images.make.described")
            with self._changing():
                if not place.exists():
                    whole.rename(place)
                    failpoints.reach("images.make.renamed")
                    files.sync_directory(self._top)
                if reference is not None:
                    self._write_names({**self._names(), str(reference): record.digest})
        except VCError:
            raise
        except OSError as error:
            raise StorageError(f"image {record.digest} cannot be stored: {error.strerror}") from error

    def name(self, reference: ImageReference, digest: str) -> None:
        """Let a name be that of an image, and of no other. Raises ImageNotFoundError if that was removed meanwhile."""
        with self._changing():
            self._read(digest)
            self._write_names({**self._names(), str(reference): digest})

    def remove(self, reference: ImageReference) -> None:
        """Remove a name, and the image if it has no other; by its digest, an image with all its names.

        Raises ImageNotFoundError, ImageError, StateError for one that a pod has, StorageError.
        """
        with self._changing():
            digest, names = self._digest(reference), self._names()
            kept = {name: one for name, one in names.items() if one != digest}
            if not reference.digest and list(names.values()).count(digest) > 1:
                self._write_names({name: one for name, one in names.items() if name != str(reference)})
                return
            doomed = self._take(digest, str(reference))
            self._write_names(kept)
        _discard(doomed)

    def prune(self, every: bool, dry_run: bool) -> list[ImageStatus]:
        """Remove the images that have no name and that no pod has, or ``every`` one that no pod has; return them.

        Removes also what was left of pulls that were killed. ``dry_run``: only return them. Raises StorageError.
        """
        doomed = [one for one in self.all() if not one.pods and (every or not one.references)]
        if dry_run:
            return doomed
        self.sweep()
        return [image for image in doomed if self._prune(image, every)]

    def _prune(self, image: ImageStatus, every: bool) -> bool:
        """Remove an image that had no pod when it was listed; return whether it could be."""
        try:
            with self._changing():
                names = self._names()
                if not every and image.digest in names.values():  # it was given a name meanwhile
                    return False
                removed = self._take(image.digest, image.digest)
                self._write_names({name: one for name, one in names.items() if one != image.digest})
        except (ImageNotFoundError, StateError):  # removed by another process, or a pod was created
            return False
        _discard(removed)
        return True

    def _take(self, digest: str, called: str) -> Path:
        """Take the name of an image from it, unless a pod has it, and return its directory, which can be removed.

        Raises ImageNotFoundError, StateError, StorageError.
        """
        try:
            fd = self._lock(digest, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateError(f"image {called!r} is used by a pod that is being created; try again") from None
        try:
            if users := self._pods().get(digest):
                raise StateError(f"image {called!r} is used by {_named(users)}; delete the pod first")
            place = self._place(digest)
            doomed = place.with_name(f"{_REMOVED}{place.name}-{os.getpid()}-{time.monotonic_ns()}")
            place.rename(doomed)
            failpoints.reach("images.remove.renamed")
            files.sync_directory(self._top)
            return doomed
        except OSError as error:
            raise StorageError(f"image {called!r} cannot be removed: {error.strerror}") from error
        finally:
            os.close(fd)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Hold the lock of the names. Raises BusyError, StorageError."""
        lock = locks.acquire(self._directory() / _LOCK, _LOCK_TIMEOUT, "another process changes the images; try again")
        try:
            yield
        finally:
            lock.release()

    def _write_names(self, names: dict[str, str]) -> None:
        files.write_atomic(self._directory(), _NAMES, encode(_Names(names=dict(sorted(names.items())))))

    def sweep(self) -> None:
        """Remove what processes that were killed have left of images that they made or removed.

        Called before an image is made or several are removed, and when pods come or go. Raises StorageError.
        """
        for path in self._directory().iterdir():
            with suppress(StorageError, OSError, BusyError):
                if path.name.startswith(_REMOVED):
                    _discard(path)
                elif path.name.startswith((_MAKING, _MAKING_LOCK)):
                    key = path.name.removeprefix(_MAKING).removeprefix(_MAKING_LOCK)
                    lock = locks.acquire(self._top / f"{_MAKING_LOCK}{key}", 0, "it is being made")
                    try:
                        _discard(self._top / f"{_MAKING}{key}")
                        lock.unlink()
                    finally:
                        lock.release()


def _not_found(called: str, meant: str = "") -> ImageNotFoundError:
    hint = f"did you mean {meant!r}? " if meant else ""
    return ImageNotFoundError(f"image {called!r} is not on this host; {hint}'virtc image pull' fetches it")


def _named(pods: list[str]) -> str:
    return f"pod {pods[0]!r}" if len(pods) == 1 else f"pod {pods[0]!r} and {len(pods) - 1} more"


def _discard(path: Path) -> None:
    """Remove a directory of images. Raises StorageError.

    An image may have directories that their owner cannot write to, which stops everybody but root.
    """
    if os.geteuid() != 0:
        for directory, _, _ in os.walk(path):
            for entry in os.scandir(directory):
                if entry.is_dir(follow_symlinks=False):
                    Path(entry.path).chmod(0o700)
    files.remove_tree(path)


def _write_back(directory: Path) -> None:
    """Let the disk have all that was written on a file system, for a crash of the host. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)  # Python has no syncfs(2)
    fd = os.open(directory, _DIRECTORY)
    try:
        if libc.syncfs(fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(fd)
