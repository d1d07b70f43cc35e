"""The file ``events`` below the state root: what became of all pods and containers, a line of JSON for each event.

Whoever changes a record appends what that means, right after the record is on disk: a supervisor, or a client that
creates or deletes a pod. The file is bounded: a full one is renamed, and replaces the former one.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import msgspec

from vc_core.decoding import decode_json
from vc_core.driver.files import open_regular
from vc_core.driver.rotating import RotatedReader, former
from vc_core.errors import StorageError
from vc_core.results import EventKind, PodEvent
from vc_core.states import State
from vc_core.store.records import ContainerRecord, PodRecord
from vc_core.store.roots import Roots

#: Bytes of both files together, at most: some ten thousand events.
EVENTS_BYTES_MAX = 4 * 1024 * 1024

#: What the reason of a container or VM has in it that ended because memory was used up.
OUT_OF_MEMORY = "out of memory"

_KINDS = {
    State.READY: EventKind.CREATED,
    State.RUNNING: EventKind.STARTED,
    State.PAUSED: EventKind.PAUSED,
    State.STOPPED: EventKind.STOPPED,
    State.FAILED: EventKind.FAILED,
}

_log = logging.getLogger(__name__)


def events_path(roots: Roots) -> Path:
    """Return the path of the file."""
    return roots.state / "events"


def changes(pod_id: str, old: PodRecord | None, new: PodRecord | None) -> list[PodEvent]:
    """Return what became of a pod and its containers between two records; None for one that does not exist, or broke.

    Their times are 0: :func:`append` sets them.
    """
    found: list[PodEvent] = []
    of_pod = _change(pod_id, "", old, new)
    before, after = (one.containers if one is not None else {} for one in (old, new))
    for name in {**before, **after}:
        found += _change(pod_id, name, before.get(name), after.get(name))
    # A pod is there before its containers, and ends after them.
    begins = bool(of_pod) and of_pod[0].kind in (EventKind.CREATED, EventKind.STARTED)
    return [*of_pod, *found] if begins else [*found, *of_pod]


def _change(
    pod_id: str, container_id: str, old: PodRecord | ContainerRecord | None, new: PodRecord | ContainerRecord | None
) -> list[PodEvent]:
    if new is None:
        return [PodEvent(0.0, EventKind.DELETED, pod_id, container_id)]
    if old is not None and old.state is new.state:
        return []
    kind = _KINDS[new.state]
    if kind is EventKind.STARTED and old is not None and old.state is State.PAUSED:
        kind = EventKind.RESUMED
    code = new.exit_code if isinstance(new, ContainerRecord) and kind is EventKind.STOPPED else None
    event = PodEvent(0.0, kind, pod_id, container_id, code, new.reason)
    if kind is EventKind.STOPPED and OUT_OF_MEMORY in new.reason:
        return [PodEvent(0.0, EventKind.OOM, pod_id, container_id, None, new.reason), event]
    return [event]


def append(roots: Roots, found: Sequence[PodEvent]) -> None:
    """Append events, with the present time. Never raises: a full disk loses them, and stops no pod."""
    if not found:
        return
    path = events_path(roots)
    try:
        fd = _open_locked(path)
        try:
            now = time.time()
            lines = [msgspec.json.encode(replace(event, time=now)) for event in found]
            os.write(fd, b"".join(line + b"\n" for line in lines))
        finally:
            os.close(fd)
    except OSError as error:
        _log.warning("events of pod %s are lost, as %r cannot be written: %s", found[0].pod_id, str(path), error)


def _open_locked(path: Path) -> int:
    """Return the file, open for appending, with its lock, and with room. Raises OSError."""
    while True:
        fd = open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)  # of writers only, each of which holds it for one write(2)
            status = os.fstat(fd)
            if os.path.samestat(status, path.stat()):
                if status.st_size < EVENTS_BYTES_MAX // 2:
                    return fd
                path.rename(former(path))
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


class EventReader:
    """Reads the events, oldest first, also while there come more."""

    def __init__(self, roots: Roots) -> None:
        self._path = events_path(roots)
        self._reader = RotatedReader(self._path)
        self._rest = b""

    def read(self) -> Iterator[PodEvent]:
        """Yield the events since the last call. A line that is broken is left out. Raises StorageError."""
        try:
            for data in self._reader.read():
                *lines, self._rest = (self._rest + data).split(b"\n")
                for line in lines:
                    with suppress(msgspec.MsgspecError, UnicodeDecodeError):  # half of one, as the disk was full
                        yield decode_json(line, PodEvent)
        except OSError as error:
            raise StorageError(f"{str(self._path)!r} cannot be read: {error.strerror}") from error

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._reader.close()
