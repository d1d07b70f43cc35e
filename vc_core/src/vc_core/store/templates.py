"""The cache of templates: saved VMs of which pods start as clones. Each is a directory with the name of its kind of VM.

The hypervisor driver writes the files; the manifest beside them is written last, and the directory gets its name then.
A process makes a template in a directory with another name, of which it holds the lock; what is left there by one that
was killed is removed by the next. Removing a template takes nothing from its clones: they have its memory mapped.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from vc_core import failpoints
from vc_core.errors import StorageError, TemplateNotFoundError, VCError
from vc_core.results import TemplateStatus
from vc_core.store import files, locks
from vc_core.store.records import SCHEMA, decode, encode
from vc_core.store.roots import CACHE_VARIABLE, private_directory

#: What a kind of VM is called (``Hypervisor.kind``); the names of directories that are being made begin with a dot.
_KIND = re.compile(r"[A-Za-z0-9]{1,64}", re.ASCII)

#: Files up to this size are compared by their content, larger ones by what identifies them: reading those again would
#: take longer than the start that they save.
_HASHED_MAX = 8 * 1024 * 1024

#: Seconds before the template of a kind that could not be made is tried again.
_REFUSED_FOR = 3600.0

_MANIFEST = "manifest.json"
_MAKING, _LOCK, _REFUSED, _REMOVED = ".making-", ".lock-", ".refused-", ".removed-"

#: What a process that was killed leaves under the lock of a kind: a directory, the lock's file, an unfinished note.
_LEFT = r"(?a)(?:\.making-|\.lock-|\.\.refused-)([A-Za-z0-9]{1,64})(?:\.new)?"


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    size: int
    inode: int
    modified: int  #: nanoseconds since the epoch
    sha256: str = ""


class _Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is written last of a template."""

    schema: int = SCHEMA
    hypervisor: str
    agent: str
    memory: int  #: MiB; 0: the driver's default
    vcpus: int
    created_at: float
    files: dict[str, _File]


class Templates:
    """The templates below a cache (``Roots.cache``); the directory is made at the first use."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache

    def _directory(self) -> Path:
        """Return the directory of templates. Raises StorageError if others can write there."""
        return private_directory(private_directory(self._cache, CACHE_VARIABLE) / "templates", CACHE_VARIABLE)

    def find(self, kind: str) -> Path | None:
        """Return the directory of a template if there is one and it is whole; one that is not is removed. Blocks.

        Called at each start of a pod, which is then the newest use of it. Raises StorageError.
        """
        path = self._directory() / _checked(kind)
        if not _is_there(path):
            return None
        with suppress(OSError, StorageError):
            if all(_is(path / name, expected) for name, expected in _read(path).files.items()):
                with suppress(OSError):  # a cache that this process can only read
                    os.utime(path / _MANIFEST)
                return path
        self._discard(path)
        return None

    def may_be_made(self, kind: str) -> bool:
        """Return whether the template of a kind may be made behind a pod: not soon after that has failed. Blocks."""
        try:
            return time.time() - (self._directory() / f"{_REFUSED}{_checked(kind)}").lstat().st_mtime > _REFUSED_FOR
        except FileNotFoundError:
            return True
        except (OSError, StorageError):  # no template can be made there
            return False

    def refuse(self, kind: str, reason: str) -> None:
        """Note that the template of a kind could not be made. Raises StorageError, BusyError if one is being made."""
        top = self._directory()
        with _locked(top, _checked(kind)):
            files.write_atomic(top, f"{_REFUSED}{kind}", f"{reason}\n".encode())

    @contextmanager
    def making(self, kind: str, end_leftovers: Callable[[Path], None]) -> Iterator[Path]:
        """Yield an empty directory in which a template is made; what is there when the body fails is removed.

        No other process makes one of this kind meanwhile. What makers and removers of any kind that were killed have
        left is removed first; ``end_leftovers`` is called with the directory of each maker, which need not exist, to
        end its processes. Raises BusyError if another process makes this kind, StorageError, and what ``end_leftovers``
        raises.
        """
        top = self._directory()
        making = top / f"{_MAKING}{_checked(kind)}"
        with _locked(top, kind):
            try:
                end_leftovers(making)
                files.remove_tree(making)
                making.mkdir(mode=0o700)
                failpoints.reach("templates.make.begun")
                self.sweep(end_leftovers)
                yield making
            except OSError as error:
                raise StorageError(f"template {str(making)!r} cannot be made: {error}") from error
            finally:
                with suppress(StorageError):
                    files.remove_tree(making)

    def sweep(self, end_leftovers: Callable[[Path], None]) -> None:
        """Remove what makers and removers that were killed have left, but what cannot be removed. Raises StorageError.

        Called by each operation that makes or removes a template; what another process works on is locked. For
        ``end_leftovers`` see :meth:`making`.
        """
        top = self._directory()
        try:
            names = [path.name for path in top.iterdir()]
        except OSError as error:
            raise StorageError(f"the templates in {str(top)!r} cannot be listed: {error.strerror}") from error
        for name in names:
            if name.startswith(_REMOVED):
                with suppress(VCError):
                    files.remove_tree(top / name)
        for kind in sorted({match[1] for match in (re.fullmatch(_LEFT, name) for name in names) if match}):
            with suppress(VCError), _locked(top, kind):
                making = top / f"{_MAKING}{kind}"
                end_leftovers(making)
                files.remove_tree(making)
                files.remove_tree(top / f".{_REFUSED}{kind}.new")

    def publish(
        self, making: Path, *, hypervisor: str, agent: str, memory: int, vcpus: int, size_max: int
    ) -> TemplateStatus:
        """Give a template that was made its name, in the place of one that is there, and return what it is.

        Called in the body of :meth:`making`. Then those that were not used for the longest time are removed until all
        together have at most ``size_max`` MiB on the disk; the new one stays. Raises StorageError.
        """
        kind = making.name.removeprefix(_MAKING)
        try:
            found = {one.name: _describe(one) for one in making.iterdir()}
        except OSError as error:
            raise StorageError(f"template {str(making)!r} cannot be read: {error}") from error
        manifest = _Manifest(
            hypervisor=hypervisor, agent=agent, memory=memory, vcpus=vcpus, created_at=time.time(), files=found
        )
        files.write_atomic(making, _MANIFEST, encode(manifest))
        failpoints.reach("templates.make.described")
        target = making.with_name(kind)
        if _is_there(target):
            self._discard(target)
        try:
            making.rename(target)
            failpoints.reach("templates.make.renamed")
            target.with_name(f"{_REFUSED}{kind}").unlink(missing_ok=True)
            files.sync_directory(target.parent)
        except OSError as error:
            raise StorageError(f"template {str(target)!r} cannot be made: {error.strerror}") from error
        self._evict(kind, size_max << 20)
        return _status(target, manifest)

    def list(self) -> list[TemplateStatus]:
        """Return all templates that are readable, the one that was used last at the end. Raises StorageError."""
        found, top = [], self._directory()
        try:
            paths = list(top.iterdir())
        except OSError as error:
            raise StorageError(f"the templates in {str(top)!r} cannot be listed: {error.strerror}") from error
        for path in paths:
            if _KIND.fullmatch(path.name):
                with suppress(OSError, StorageError):
                    found.append(_status(path, _read(path)))
        return sorted(found, key=lambda one: one.used_at)

    def has_any(self) -> bool:
        """Return whether there is a template, which may be broken. Makes no directory. Raises OSError."""
        with suppress(FileNotFoundError):
            return any(_KIND.fullmatch(path.name) for path in (self._cache / "templates").iterdir())
        return False

    def has_any_of(self, hypervisor: str, agent: str) -> bool:
        """Return whether there is a template of these drivers. Makes no directory. Raises StorageError."""
        with suppress(OSError):
            if self.has_any():
                return any((one.hypervisor, one.agent) == (hypervisor, agent) for one in self.list())
        return False

    def remove(self, kind: str) -> None:
        """Remove a template; its clones run on. Raises TemplateNotFoundError, StorageError."""
        path = self._directory() / kind
        if not _KIND.fullmatch(kind) or not _is_there(path):
            raise TemplateNotFoundError(f"there is no template {kind!r}; 'virtc template list' shows all")
        self._discard(path)

    def _discard(self, path: Path) -> None:
        """Remove whatever has the name of a template. Raises StorageError."""
        doomed = path.with_name(f"{_REMOVED}{os.getpid()}-{time.monotonic_ns()}")
        try:
            doomed.mkdir(mode=0o700)
            with suppress(FileNotFoundError):  # removed by another process
                path.rename(doomed / path.name)  # first, so that no start finds a part of it
            failpoints.reach("templates.remove.renamed")
        except OSError as error:
            raise StorageError(f"template {str(path)!r} cannot be removed: {error.strerror}") from error
        files.remove_tree(doomed)

    def _evict(self, newest: str, size_max: int) -> None:
        """Remove what was not used for the longest time until all together have at most ``size_max`` bytes."""
        found = [one for one in self.list() if one.kind != newest]
        # Unlike Path.rglob, os.walk leaves out a directory that another process removes meanwhile.
        walk = os.walk(self._directory())
        total = sum(_room(Path(top, name)) for top, directories, names in walk for name in (*directories, *names))
        for one in found:
            if total <= size_max:
                break
            total -= one.size
            with suppress(TemplateNotFoundError):
                self.remove(one.kind)


@contextmanager
def _locked(top: Path, kind: str) -> Iterator[None]:
    """Hold the lock of who makes a template. Raises BusyError, StorageError."""
    lock = locks.acquire(top / f"{_LOCK}{kind}", 0, "another process makes this template; try again later")
    try:
        yield
    finally:
        with suppress(OSError):
            lock.unlink()
        lock.release()


def _is_there(path: Path) -> bool:
    """Return whether anything has this path. Raises StorageError."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StorageError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    return True


def _checked(kind: str) -> str:
    if not _KIND.fullmatch(kind):
        raise StorageError(f"{kind!r} cannot be the name of a template: it has 1 to 64 letters and digits")
    return kind


def _read(path: Path) -> _Manifest:
    """Return the manifest of a template. Raises OSError, StorageError."""
    status = path.lstat()
    if {status.st_uid, (path / _MANIFEST).lstat().st_uid} != {os.geteuid()} or status.st_mode & 0o077:
        raise StorageError(f"{str(path)!r} is not a directory of this user alone")
    return decode(files.read_whole(path / _MANIFEST), str(path / _MANIFEST), _Manifest)


def _describe(path: Path) -> _File:
    status = path.lstat()
    digest = _digest(path) if status.st_size <= _HASHED_MAX else ""
    return _File(size=status.st_size, inode=status.st_ino, modified=status.st_mtime_ns, sha256=digest)


def _is(path: Path, expected: _File) -> bool:
    """Return whether a file is the one that was described, and written by this user alone. Raises OSError."""
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        return False
    if (status.st_size, status.st_ino, status.st_mtime_ns) != (expected.size, expected.inode, expected.modified):
        return False
    return not expected.sha256 or _digest(path) == expected.sha256


def _digest(path: Path) -> str:
    """Return the SHA-256 hash of a file. Raises OSError."""
    import hashlib  # here, because clients look for templates and compare none

    return hashlib.sha256(path.read_bytes()).hexdigest()


def _room(path: Path) -> int:
    """Return the bytes that a file takes on the disk."""
    with suppress(OSError):
        return path.lstat().st_blocks * 512
    return 0


def _status(path: Path, manifest: _Manifest) -> TemplateStatus:
    return TemplateStatus(
        kind=path.name,
        hypervisor=manifest.hypervisor,
        agent=manifest.agent,
        memory=manifest.memory,
        vcpus=manifest.vcpus,
        created_at=manifest.created_at,
        used_at=(path / _MANIFEST).stat().st_mtime,
        size=sum(_room(path / name) for name in manifest.files),
    )
