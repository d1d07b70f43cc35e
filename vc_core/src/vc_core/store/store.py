"""The store: one directory per pod below the state root, one below the run root, one lock file.

Everything that changes a pod's files is called with the pod's lock held; reading needs no lock.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vc_core import failpoints
from vc_core.config.ids import ID_PATTERN, check_id, is_new_id
from vc_core.config.values import similar_name
from vc_core.errors import PodExistsError, PodNotFoundError, StorageError, VCError
from vc_core.frozen import frozen
from vc_core.store import files, locks, records
from vc_core.store.locks import FileLock
from vc_core.store.records import PodRecord
from vc_core.store.roots import Roots, private_directory

if TYPE_CHECKING:
    from vc_core.config.pod import PodConfig

#: Seconds that an operation waits for another one on the same pod.
LOCK_TIMEOUT = 10.0

#: Ids that an error lists at most.
_SHOWN = 5


@frozen
class Store:
    """Records of pods below ``roots``.

    ``lock``: of the one pod that is written to, for an engine that may lose it; see :meth:`holding`.
    """

    roots: Roots
    lock: FileLock | None = None

    @classmethod
    def here(cls) -> Store:
        """Return the store of this user and environment. Called at the start of every operation.

        Raises StorageError.
        """
        return cls(Roots.from_environment())

    def ids(self) -> list[str]:
        """Return the ids of all pods, sorted. Raises StorageError."""
        return sorted(filter(ID_PATTERN.fullmatch, _names(self.roots.state / "pods")))

    def find(self, text: str) -> str:
        """Return the id of the pod that ``text`` names: an id, or the beginning of just one id that was not chosen.

        An id that a caller chose is a name, of which no beginning counts: what is meant for a pod that was deleted must
        not reach another one. ``text`` is returned as it is if it names no pod.
        Raises PodNotFoundError for the beginning of several ids, ConfigError for what is no id, StorageError.
        """
        if self.exists(text):
            return text
        found = [one for one in self.ids() if one.startswith(text) and is_new_id(one)]
        if len(found) > 1:
            names = ", ".join(map(repr, found[:_SHOWN])) + (f" and {len(found) - _SHOWN} more" * (len(found) > _SHOWN))
            raise PodNotFoundError(f"the ids of {len(found)} pods begin with {text!r}: {names}; give more of the id")
        return found[0] if found else text

    def not_found(self, text: str) -> PodNotFoundError:
        """Return the error for an id that no pod has; it proposes a similar one."""
        meant = similar_name(text, self.ids())
        hint = f"did you mean {meant!r}? " if meant else ""
        return PodNotFoundError(f"no pod has the id {text!r}; {hint}'virtc pod list' shows all")

    def holding(self, lock: FileLock) -> Store:
        """Return a store that writes records only until ``lock`` is released, which another thread may do."""
        return replace(self, lock=lock)

    def _require_lock(self, pod_id: str) -> None:
        if self.lock is not None and not self.lock.held:
            raise StorageError(f"pod {pod_id!r} is not changed: this operation was left behind, as it took too long")

    @contextmanager
    def locked(self, pod_id: str, timeout: float = LOCK_TIMEOUT) -> Iterator[FileLock]:
        """Hold a pod's lock, after waiting for it ``timeout`` seconds at most. The pod need not exist.

        The lock file is removed if there is no pod in the end. Raises BusyError, StorageError, ConfigError (bad id).
        """
        check_id("pod", pod_id)
        private_directory(self.roots.state)
        path = self.roots.pod_lock(pod_id)
        private_directory(path.parent)
        lock = locks.acquire(path, timeout, f"pod {pod_id!r} is busy with another operation; try again")
        try:
            yield lock
        finally:
            try:
                # If this fails, an empty file is left, which serves the next pod of this id, or is swept.
                with suppress(OSError, StorageError):
                    if lock.held and not self.exists(pod_id):
                        failpoints.reach("store.lock.unlink")
                        lock.unlink()
            finally:
                lock.release()

    def remove_planted_lock(self, pod_id: str) -> None:
        """Remove what has the name of a pod's lock file and is no file. Called by a forced delete, without the lock.

        No process can hold a lock on it: each refuses to open it. Raises StorageError.
        """
        path = self.roots.pod_lock(pod_id)
        try:
            if not stat.S_ISREG(path.lstat().st_mode):
                files.remove_tree(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StorageError(f"{str(path)!r} cannot be read: {error.strerror}") from error

    def read(self, pod_id: str) -> PodRecord:
        """Return a pod's record. Raises ConfigError for a bad id, PodNotFoundError, StorageError."""
        path = f"{self.roots.state}/pods/{check_id('pod', pod_id)}/state.json"  # as text, for long lists
        record = records.decode_pod(self._read(pod_id, path), path)
        if record.id != pod_id:
            raise StorageError(f"{path!r} is broken: it is the record of pod {record.id!r}")
        return record

    def read_config(self, pod_id: str) -> PodConfig:
        """Return a pod's configuration. Raises ConfigError for a bad id, PodNotFoundError, StorageError."""
        from vc_core.store.config_record import decode_config

        path = self.roots.pod_state_dir(check_id("pod", pod_id)) / "config.json"
        return decode_config(self._read(pod_id, path), str(path))

    def current_config(self, record: PodRecord) -> PodConfig:
        """Return the configuration of a pod that has a record, with the containers that it has now.

        A container without a record was half added or half removed, and is left out. Raises as :meth:`read_config`.
        """
        config = self.read_config(record.id)
        return replace(config, containers=[one for one in config.containers if one.id in record.containers])

    def _read(self, pod_id: str, path: Path | str) -> bytes:
        for _ in range(2):  # the pod may be deleted, and another of its id created, between two looks
            try:
                return files.read_whole(path)
            except FileNotFoundError:
                if not self.exists(pod_id):
                    raise self.not_found(pod_id) from None
        raise StorageError(f"record {str(path)!r} of pod {pod_id!r} is missing; delete the pod with --force")

    def exists(self, pod_id: str) -> bool:
        """Return whether there is a pod of this id, whole or broken. Raises ConfigError for a bad id, StorageError."""
        path = self.roots.pod_state_dir(check_id("pod", pod_id))
        try:
            path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise StorageError(f"{str(path)!r} cannot be read: {error.strerror}") from error
        return True

    def require_absent(self, pod_id: str) -> None:
        """Refuse the id of a pod that exists. Called before a pod is created, and again under its lock.

        Raises ConfigError for a bad id, PodExistsError, StorageError.
        """
        if self.exists(pod_id):
            raise PodExistsError(f"a pod with the id {pod_id!r} exists; choose another id or delete it first")

    def create(self, config: PodConfig, record: PodRecord) -> None:
        """Add a pod, as a whole or not at all. Called with the lock held.

        Raises PodExistsError, ConfigError for text that cannot be stored, StorageError.
        """
        from vc_core.store.config_record import encode_config

        pods = private_directory(self.roots.state / "pods")
        target, building = pods / config.id, self._half_made(config.id)
        self.require_absent(config.id)
        self.remove_unlisted(config.id)
        try:
            building.mkdir(mode=0o700)
            failpoints.reach("store.create.made")
            files.write_new(building, {"config.json": encode_config(config), "state.json": records.encode(record)})
            failpoints.reach("store.create.recorded")
            building.rename(target)
            try:
                failpoints.reach("store.create.renamed")
                files.sync_directory(pods)
            except BaseException:
                target.rename(building)
                raise
        except BaseException as error:
            with suppress(StorageError):  # else the next create or delete removes it
                files.remove_tree(building)
            if not isinstance(error, OSError):
                raise
            raise StorageError(f"pod {config.id!r} cannot be stored in {str(pods)!r}: {error.strerror}") from error
        self._note(config.id, None, record)

    def _half_made(self, pod_id: str) -> Path:
        return self.roots.state / "pods" / f".{pod_id}.new"

    def _half_deleted(self, pod_id: str) -> Path:
        return self.roots.state / "pods" / f".{pod_id}.deleted"

    def remove_unlisted(self, pod_id: str) -> None:
        """Remove what a process that was killed has left of a pod under other names. Called with the lock held.

        Raises StorageError.
        """
        files.remove_tree(self._half_made(pod_id))
        files.remove_tree(self._half_deleted(pod_id))

    def sweep(self) -> None:
        """Remove what killed processes have left of pods and images that no list shows, and lock files without a pod.

        Called by each operation that adds or deletes a pod, before it does. Of what another process works on, that
        process holds the lock, and it is left alone, as is what cannot be removed.
        """
        with suppress(StorageError):
            names = _names(self.roots.state / "pods")
            hidden = {name[1:].rpartition(".")[0] for name in names if name.startswith(".")}
            locked = {name.removesuffix(".lock") for name in _names(self.roots.pod_lock("").parent)}
            for pod_id in filter(ID_PATTERN.fullmatch, sorted(hidden | locked.difference(names))):
                with suppress(VCError), self.locked(pod_id, 0):
                    self.remove_unlisted(pod_id)
        with suppress(StorageError):
            if any(name.startswith(".") and name != ".lock" for name in _names(self.roots.state / "images")):
                from vc_core.store.images import Images  # what finds nothing to remove does without

                Images(self.roots).sweep()

    def write(self, record: PodRecord) -> None:
        """Replace the record of a pod. Called with the lock held. Raises StorageError; the old record is kept then."""
        self._require_lock(record.id)
        files.write_atomic(self.roots.pod_state_dir(record.id), "state.json", records.encode(record))

    def write_config(self, config: PodConfig) -> None:
        """Replace the configuration of a pod. Called with the lock held. Raises ConfigError, StorageError."""
        self._require_lock(config.id)
        from vc_core.store.config_record import encode_config

        files.write_atomic(self.roots.pod_state_dir(config.id), "config.json", encode_config(config))

    def make_run_dir(self, pod_id: str) -> Path:
        """Make a pod's directory below the run root, if there is none; return it. Called with the lock held.

        Raises StorageError.
        """
        private_directory(self.roots.run)
        private_directory(self.roots.run / "pods")
        return private_directory(self.roots.pod_run_dir(pod_id))

    def remove_container_files(self, pod_id: str, container_id: str) -> None:
        """Remove a container's log. Called with the lock held. Raises StorageError."""
        self._require_lock(pod_id)
        files.remove_tree(self.roots.pod_state_dir(pod_id) / "containers" / container_id)

    def remove(self, pod_id: str) -> None:
        """Remove all files of a pod except its lock. Called with the lock held.

        Raises StorageError: the pod is as it was if something is mounted below its directory or the disk refuses the
        first step. After that no list shows it, and what is left of its files is removed by :meth:`sweep`.
        """
        target, doomed = self.roots.pod_state_dir(pod_id), self._half_deleted(pod_id)
        files.require_no_mount(target)
        last: PodRecord | None = None
        with suppress(StorageError, LookupError):
            last = self.read(pod_id)
        files.remove_tree(self.roots.pod_run_dir(pod_id))
        failpoints.reach("store.remove.run_dir")
        self.remove_unlisted(pod_id)
        try:
            target.rename(doomed)  # the pod vanishes as a whole
            failpoints.reach("store.remove.renamed")
            files.sync_directory(target.parent)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StorageError(f"pod {pod_id!r} cannot be removed: {error.strerror}") from error
        self._note(pod_id, last, None)
        files.remove_tree(doomed)
        failpoints.reach("store.remove.removed")

    def _note(self, pod_id: str, old: PodRecord | None, new: PodRecord | None) -> None:
        """Add to the events that a pod was created or deleted."""
        from vc_core.store import events  # what only looks at pods does without

        events.append(self.roots, events.changes(pod_id, old, new))


def _names(directory: Path) -> list[str]:
    """Return the names in a directory, none if there is no directory. Raises StorageError."""
    try:
        return os.listdir(directory)  # noqa: PTH208 # no paths are wanted
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(f"{str(directory)!r} cannot be read: {error.strerror}") from error
