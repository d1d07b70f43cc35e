"""One pod's record and configuration: every change goes to disk first, then to memory, then to the extensions."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from vc_core import failpoints, trace
from vc_core.config.container import ContainerConfig
from vc_core.config.pod import PodConfig
from vc_core.engine import removal
from vc_core.engine.logs import ContainerLog
from vc_core.errors import ContainerExistsError, StorageError
from vc_core.store import events
from vc_core.store.records import ContainerRecord, PodRecord
from vc_core.store.status import container_log, ended, find_container
from vc_core.store.store import Store

if TYPE_CHECKING:
    from vc_core.plugins.registry import Plugins

_log = logging.getLogger(__name__)


class Ledger:
    """Reads and writes one pod's record and configuration. The caller holds the pod's lock, so it is the only writer.

    Making one raises PodNotFoundError, StorageError.
    """

    def __init__(self, store: Store, pod_id: str, plugins: Plugins) -> None:
        self._store, self._plugins = store, plugins
        #: The pod's record: as it is on disk, but for facts that the disk refused (see :meth:`note_end`).
        self.record: PodRecord = store.read(pod_id)
        self._written = self.record
        #: The caller's configuration, with the containers that the pod has now.
        self.config: PodConfig = store.current_config(self.record)

    def _has(self, container_id: str) -> bool:
        return container_id in self.record.containers

    @property
    def name(self) -> str:
        """The pod, for messages."""
        return f"pod {self.record.id!r}"

    def commit(self, **changes: Any) -> None:
        """Change the record on disk, then notify extensions of what changed its state. Raises StorageError.

        It blocks the event loop for two fsync(2), on purpose: no other task may see the pod between the old record and
        the new one, and the resource that the record announces is made right after. Records change only when a pod or a
        container starts or ends. The extensions are called on another thread.
        """
        self._commit(msgspec.structs.replace(self.record, **changes))

    def commit_container(self, container_id: str, of_pod: Mapping[str, Any], **changes: Any) -> None:
        """Change the record of one container and, in the same write, the fields ``of_pod`` of the pod's record.

        Raises StorageError.
        """
        self._commit(self._with_container(container_id, of_pod, changes))

    def note_end(self, container_id: str, **changes: Any) -> None:
        """Record how a container ended. Raises StorageError; the next change that the disk takes has it too."""
        self._note(self._with_container(container_id, {}, changes))

    def _with_container(self, container_id: str, of_pod: Mapping[str, Any], changes: Mapping[str, Any]) -> PodRecord:
        container = msgspec.structs.replace(self.record.containers[container_id], **changes)
        containers = {**self.record.containers, container_id: container}
        return msgspec.structs.replace(self.record, containers=containers, **of_pod)

    def commit_ended(self, reason: str) -> None:
        """Record that the VM has ended, and with it all containers.

        Raises StorageError; the next change that the disk takes has it too.
        """
        self._note(ended(self.record, reason, time.time()))

    def commit_undone(self, **before: Any) -> None:
        """Record that a start failed and nothing of it is left: the pod is what it was ``before``. Raises StorageError.

        ``before``: fields of its record.
        """
        record = ended(self.record, "the start of its pod failed", time.time())
        self._commit(msgspec.structs.replace(record, **before))

    @contextmanager
    def tolerating(self, fact: str) -> Iterator[None]:
        """Log that the disk refuses to record a ``fact``, such as "that it was stopped", and go on."""
        try:
            yield
        except StorageError as error:
            _log.error("%s: not recorded yet, %s: %s", self.name, fact, error)

    def flush(self) -> None:
        """Write what the disk has refused so far.

        Called from time to time, and when the engine is closed. Raises StorageError.
        """
        if self.record is not self._written:
            self._commit(self.record)

    def remove(self) -> None:
        """Delete the pod, which does not run, and notify extensions. Called at last. Raises StorageError."""
        removal.remove(self._store, self.record.id, force=True)
        self._plugins.notify_pod_transition(self.record.id, str(self.record.state), "")

    @property
    def on_disk(self) -> PodRecord:
        """The pod's record as it is on disk."""
        return self._written

    def _note(self, record: PodRecord) -> None:
        """Record a fact that holds even if it cannot be written: memory has it in any case. Raises StorageError."""
        self.record = self._with_time(record)
        self._commit(self.record)

    def _with_time(self, record: PodRecord) -> PodRecord:
        """Return a record with the present as the time of its state and reason, if they change and have no time yet."""
        old = self._written
        if (old.state, old.reason) == (record.state, record.reason) or old.changed_at != record.changed_at:
            return record
        return msgspec.structs.replace(record, changed_at=time.time())

    def _commit(self, record: PodRecord) -> None:
        old, record = self._written, self._with_time(record)
        with trace.span("write the record"):
            self._store.write(record)
        self._written = self.record = record
        events.append(self._store.roots, events.changes(record.id, old, record))
        for name in old.containers.keys() | record.containers.keys():
            before, after = (str(one.containers[name].state) if name in one.containers else "" for one in (old, record))
            if before != after:
                self._plugins.notify_container_transition(record.id, name, before, after)
        if old.state is not record.state:
            self._plugins.notify_pod_transition(record.id, str(old.state), str(record.state))

    def container(self, container_id: str) -> ContainerRecord:
        """Return a container's record. Raises ContainerNotFoundError."""
        return find_container(self.record, container_id)

    def container_config(self, container_id: str) -> ContainerConfig:
        """Return the configuration of a container. Raises ContainerNotFoundError."""
        self.container(container_id)
        return next(one for one in self.config.containers if one.id == container_id)

    def add_container(self, config: ContainerConfig) -> None:
        """Add a container, ready to be started. Raises ContainerExistsError, StorageError."""
        if config.id in self.record.containers:
            raise ContainerExistsError(
                f"{self.name} has a container {config.id!r}; choose another id or delete it first"
            )
        config_of_pod = replace(self.config, containers=[*self.config.containers, config])
        self._store.write_config(config_of_pod)  # first: without a record the container does not count
        failpoints.reach("engine.container.configured")
        self.commit(containers={**self.record.containers, config.id: ContainerRecord()})
        self.config = config_of_pod

    def replace_container(self, config: ContainerConfig) -> None:
        """Give a container another configuration, from its next start on. Raises StorageError."""
        containers = [config if one.id == config.id else one for one in self.config.containers]
        changed = replace(self.config, containers=containers)
        self._store.write_config(changed)
        self.config = changed

    def remove_container(self, container_id: str) -> None:
        """Remove a container and its log. Raises StorageError; the container is still there then."""
        self._store.remove_container_files(self.record.id, container_id)
        failpoints.reach("engine.container.log_removed")
        self.commit(containers={name: one for name, one in self.record.containers.items() if name != container_id})
        self.config = replace(self.config, containers=[one for one in self.config.containers if self._has(one.id)])
        failpoints.reach("engine.container.unrecorded")
        with suppress(StorageError):  # without a record it does not count, and the next change leaves it out
            self._store.write_config(self.config)

    def open_log(self, container_id: str, resumed: bool = False) -> ContainerLog:
        """Return a container's log, opened for a process that starts, or with ``resumed`` for one that is taken over.

        The caller closes it. Raises ContainerNotFoundError, StorageError.
        """
        self.container(container_id)
        return ContainerLog(container_log(self._store.roots, self.record.id, container_id), resumed=resumed)
