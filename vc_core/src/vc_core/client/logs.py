"""The logs of containers, as operations that return the next lines."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import suppress

from vc_core.client.connect import connect
from vc_core.client.interpreters import InThread, Operation, Ready
from vc_core.client.link import Link, final_reply
from vc_core.errors import ConfigError, ContainerNotFoundError, PodNotFoundError, StorageError, SupervisorLostError
from vc_core.results import LogLine
from vc_core.states import LIVE_STATES
from vc_core.store import files
from vc_core.store.container_log import LogReader
from vc_core.store.records import PodRecord
from vc_core.store.status import container_log, effective_record, find_container
from vc_core.store.store import Store
from vc_core.supervisor.messages import WaitContainer

#: Lines that one call returns at most, so that a long log is not in memory as a whole.
_BATCH = 4096

#: Bytes of notifications of changes that one read takes.
_CHANGES = 64 * 1024


class ContainerLogs:
    """The lines of a container's log, for one reader: :meth:`following` returns them in parts, and nothing at the end.

    ``since``: seconds since the epoch; older lines are left out. ``tail``: how many of the last lines that are there;
    None for all. ``follow``: wait for lines until the container ends. ``stdout`` and ``stderr``: of which streams.
    """

    def __init__(
        self,
        pod_id: str,
        container_id: str,
        *,
        follow: bool = False,
        since: float | None = None,
        tail: int | None = None,
        stdout: bool = True,
        stderr: bool = True,
    ) -> None:
        """Find the container. Raises PodNotFoundError, ContainerNotFoundError, ConfigError, StorageError."""
        if tail is not None and (not isinstance(tail, int) or isinstance(tail, bool) or tail < 0):
            raise ConfigError(f"tail is {tail!r}; give a number of lines, 0 or more")
        if since is not None and not isinstance(since, int | float):
            raise ConfigError(f"since is {since!r}; give seconds since the epoch, as time.time() returns them")
        self._store, self._pod_id, self._container_id = Store.here(), pod_id, container_id
        self._since, self._tail, self._follow = since or 0.0, tail, follow
        self._streams = {name for name, wanted in (("stdout", stdout), ("stderr", stderr)) if wanted}
        self._log = container_log(self._store.roots, pod_id, container_id)
        self._running = self._is_running(self._record())
        self._reader = LogReader(self._log)
        self._watches: list[int] = []
        self._link: Link | None = None
        self._lines: Iterator[LogLine] | None = None
        self._over = False

    def following(self) -> Operation[list[LogLine]]:
        """Return the next lines, once there are any; an empty list at the end.

        Raises StorageError, and with ``follow`` what keeps the pod's supervisor from being connected.
        """
        while not self._over:
            if self._lines is None:
                if self._follow and self._running and not self._watches:
                    yield InThread(self._begin_to_watch)
                    yield from self._await_end()
                self._lines = self._wanted(ended=not (self._follow and self._running))
            lines: list[LogLine] = yield InThread(self._batch)
            if lines:
                return lines
            self._lines, self._tail = None, None
            self._over = not (self._follow and self._running)
            if not self._over:
                yield from self._wait()
        return []

    def close(self) -> Operation[None]:
        """Release what is open. Idempotent."""
        self._over = True
        self._reader.close()
        while self._watches:
            os.close(self._watches.pop())
        yield from self._disconnect()

    def _begin_to_watch(self) -> None:
        try:
            self._watches.append(files.watch(self._store.roots.pod_state_dir(self._pod_id)))
            self._watches.append(files.watch(self._log.parent, growth=True))
        except StorageError:
            if self._log.parent.exists():
                raise
            self._running = False  # it was deleted meanwhile

    def _batch(self) -> list[LogLine]:
        assert self._lines is not None
        return [line for line, _ in zip(self._lines, range(_BATCH), strict=False)]

    def _wanted(self, ended: bool) -> Iterator[LogLine]:
        lines = self._reader.lines(ended)
        chosen = (line for line in lines if line.stream in self._streams and line.time >= self._since)
        return chosen if self._tail is None else iter(deque(chosen, min(self._tail, sys.maxsize)))

    def _record(self) -> PodRecord:
        record = effective_record(self._store.read(self._pod_id))
        find_container(record, self._container_id)
        return record

    def _is_running(self, record: PodRecord) -> bool:
        return find_container(record, self._container_id).state in LIVE_STATES

    def _await_end(self) -> Operation[None]:
        """Begin to wait for the end of the container: its supervisor reports it, which is started if it was lost.

        A pod without a supervisor has the process that ends the container write its record.
        """
        yield from self._disconnect()
        try:
            record: PodRecord = yield InThread(self._record)
            self._running = self._running and self._is_running(record)
            if self._running and record.supervised:
                self._link = yield from connect(self._store, record)
                self._link.send(WaitContainer(container=self._container_id))
        except (PodNotFoundError, ContainerNotFoundError):
            self._running = False
        except SupervisorLostError:
            yield from self._await_end()

    def _wait(self) -> Operation[None]:
        """Return when the log may have grown, or the container may have ended."""
        link = [self._link.sock.fileno()] if self._link is not None else []
        ready = yield Ready(read=[*self._watches, *link])
        for watch in ready & set(self._watches):
            with suppress(BlockingIOError):
                os.read(watch, _CHANGES)
        if self._link is None:
            yield from self._await_end()
        elif ready & set(link):
            try:
                reply = self._link.poll()
            except SupervisorLostError:
                yield from self._await_end()
            else:
                self._running = reply is None or final_reply(reply, None) is None

    def _disconnect(self) -> Operation[None]:
        if self._link is not None:
            link, self._link = self._link, None
            yield from link.close()
