"""The store: one directory per pod below the state root, one below the run root, one lock file.

Everything that changes a pod's files is called with the pod's lock held; reading needs no lock.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vc_core.config.ids import ID_PATTERN, check_id
from vc_core.errors import PodExistsError, PodNotFoundError, StorageError
from vc_core.store import files, locks, records
from vc_core.store.locks import FileLock
from vc_core.store.records import PodRecord
from vc_core.store.roots import Roots, private_directory

if TYPE_CHECKING:
    from vc_core.config.pod import PodConfig

#: Seconds that an operation waits for another one on the same pod.
LOCK_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
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
        try:
            names = [path.name for path in (self.roots.state / "pods").iterdir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StorageError(f"{str(self.roots.state)!r} cannot be read: {error.strerror}") from error
        return sorted(name for name in names if ID_PATTERN.fullmatch(name))

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
                if lock.held and not self.exists(pod_id):
                    with suppress(OSError):  # an empty file is left, and serves the next pod of this id
                        lock.unlink()
            finally:
                lock.release()

    def read(self, pod_id: str) -> PodRecord:
        """Return a pod's record. Raises ConfigError for a bad id, PodNotFoundError, StorageError."""
        path = self.roots.pod_state_dir(check_id("pod", pod_id)) / "state.json"
        record = records.decode_pod(self._read(pod_id, path), str(path))
        if record.id != pod_id:
            raise StorageError(f"{str(path)!r} is broken: it is the record of pod {record.id!r}")
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

    def _read(self, pod_id: str, path: Path) -> bytes:
        for _ in range(2):  # the pod may be deleted, and another of its id created, between two looks
            try:
                return files.read_whole(path)
            except FileNotFoundError:
                if not self.exists(pod_id):
                    raise PodNotFoundError(f"no pod has the id {pod_id!r}; 'virtc pod list' shows all") from None
        raise StorageError(f"record {str(path)!r} of pod {pod_id!r} is missing; delete the pod with --force")

    def exists(self, pod_id: str) -> bool:
        """Return whether there is a pod of this id, whole or broken. Raises ConfigError for a bad id."""
        return self.roots.pod_state_dir(check_id("pod", pod_id)).is_dir()

    def require_absent(self, pod_id: str) -> None:
        """Refuse the id of a pod that exists. Called before a pod is created, and again under its lock.

        Raises ConfigError for a bad id, PodExistsError.
        """
        if self.exists(pod_id):
            raise PodExistsError(f"a pod with the id {pod_id!r} exists; choose another id or delete it first")

    def create(self, config: PodConfig, record: PodRecord) -> None:
        """Add a pod, as a whole or not at all. Called with the lock held.

        Raises PodExistsError, ConfigError for text that cannot be stored, StorageError.
        """
        from vc_core.store.config_record import encode_config

        pods = private_directory(self.roots.state / "pods")
        target, building = pods / config.id, pods / f".{config.id}.new"
        self.require_absent(config.id)
        files.remove_tree(building)
        try:
            building.mkdir(mode=0o700)
            files.write_new(building, {"config.json": encode_config(config), "state.json": records.encode(record)})
            building.rename(target)
            files.sync_directory(pods)
        except BaseException as error:
            with suppress(StorageError):  # the next attempt removes it
                files.remove_tree(building)
            if not isinstance(error, OSError):
                raise
            raise StorageError(f"pod {config.id!r} cannot be stored in {str(pods)!r}: {error.strerror}") from error

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

        Raises StorageError.
        """
        files.remove_tree(self.roots.pod_run_dir(pod_id))
        pods = self.roots.state / "pods"
        target, doomed = pods / pod_id, pods / f".{pod_id}.deleted"
        files.remove_tree(doomed)
        try:
            # The rename makes the pod vanish at once; what a crash leaves behind is removed by the next delete.
            target.rename(doomed)
            files.sync_directory(pods)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StorageError(f"pod {pod_id!r} cannot be removed: {error.strerror}") from error
        files.remove_tree(doomed)
