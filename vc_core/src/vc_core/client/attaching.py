"""Attaches a caller to the main process of a running container: its output from now on, input, signals and sizes."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from vc_core.client.connect import connect
from vc_core.client.detach import DetachKeys
from vc_core.client.foreground import NO_TERMINAL, Caller, on_started, run_with_streams
from vc_core.client.interpreters import Operation, Ready
from vc_core.client.link import Link
from vc_core.client.processes import Reader, Running, Writer
from vc_core.client.stdio import Stdin, Stdio
from vc_core.errors import VCError
from vc_core.states import LIVE_STATES, Action
from vc_core.store import files
from vc_core.store.container_log import LogReader
from vc_core.store.records import PodRecord
from vc_core.store.status import container_log, effective_record, find_container, require
from vc_core.store.store import Store
from vc_core.supervisor.messages import Attach, Started, Streams

#: Bytes of notifications of changes that one read takes.
_CHANGES = 64 * 1024

#: Seconds for the thread that copies output to pass on the rest, where the caller does not wait for its end.
_REST_TIMEOUT = 10.0


def has_terminal(pod_id: str, container_id: str) -> bool:
    """Return whether the main process of a container is on a terminal; the caller's is put into raw mode then."""
    return find_container(Store.here().read(pod_id), container_id).terminal


def attach_container(
    pod_id: str,
    container_id: str,
    stdin: Stdin,
    stdout: int,
    stderr: int,
    caller: Caller = NO_TERMINAL,
    started: Callable[[Started], None] | None = None,
) -> Operation[int]:
    """Attach to a running container; return its exit code when it ended, 0 when the caller detached.

    ``stdout`` and ``stderr``: descriptors that its output is written to; when one has no reader any more, 141 is
    returned at once. Raises PodNotFoundError,
    ContainerNotFoundError, StateError, StorageError, SupervisorLostError.
    """
    store, record = _running(pod_id, container_id)
    output = _Output(store, record, container_id, (stdout, stderr))
    try:
        stdio = _AttachedStdio(stdin, caller.detach_keys, output)
        try:
            streams = Streams(passed=stdio.passed, terminal=caller.terminal)
            request = Attach(container=container_id, streams=streams)
            link = yield from connect(store, record, send=lambda link: link.send(request, stdio.fds))
            try:
                output.start()
                what = f"container {container_id!r}"
                answer = yield from run_with_streams(link, stdio, what, None, caller.signals, on_started(started))
            finally:
                yield from link.close()
        finally:
            stdio.close()
        output.stop()
        yield from output.wait(None)
    finally:
        output.stop()
        yield from output.wait(_REST_TIMEOUT)
    return 128 + signal.SIGPIPE if output.broken else answer.code


def open_attachment(pod_id: str, container_id: str, ends_input: bool) -> Operation[Running]:
    """Attach to a running container with pipes as its streams, and return while it runs.

    ``ends_input``: the end of the caller's input is that of the container.
    Raises PodNotFoundError, ContainerNotFoundError, StateError, StorageError, SupervisorLostError.
    """
    store, record = _running(pod_id, container_id)
    ends = [os.pipe() for _ in range(3)]
    (stdin_read, stdin_write), *outputs = ends
    ours = Writer(stdin_write), Reader(outputs[0][0]), Reader(outputs[1][0])
    output: _Output | None = None
    attached: _Attachment | None = None
    began = False
    try:
        output = _Output(store, record, container_id, (outputs[0][1], outputs[1][1]), owned=True)
        link = yield from connect(store, record)
        attached = _Attachment(f"the main process of {pod_id}/{container_id}", link, *ours, output)
        request = Attach(container=container_id, streams=Streams(passed=(True, False, False)), ends_input=ends_input)
        link.send(request, [stdin_read])
        output.start()
        yield from attached.begin()
        began = True
        return attached
    finally:
        os.close(stdin_read)
        if not began:
            for end in ours:
                end.close()
            if output is None:
                for _, write in outputs:
                    os.close(write)
            elif attached is None:
                output.stop()
                yield from output.wait(_REST_TIMEOUT)
            else:
                yield from attached.close()


def _running(pod_id: str, container_id: str) -> tuple[Store, PodRecord]:
    store = Store.here()
    record = effective_record(store.read(pod_id))
    require(record, Action.ATTACH_CONTAINER, container_id)
    return store, record


class _AttachedStdio(Stdio):
    """The input of a caller, who leaves by the detach keys, or when the output has no reader any more."""

    def __init__(self, stdin: Stdin, keys: DetachKeys | None, output: _Output) -> None:
        super().__init__(stdin, subprocess.DEVNULL, subprocess.DEVNULL, keys)
        self._output, self._output_ended = output, False

    @property
    def reading(self) -> list[int]:
        """See :class:`Stdio`."""
        return super().reading if self._output_ended else [*super().reading, self._output.ended]

    @property
    def detached(self) -> bool:
        """See :class:`Stdio`."""
        return self._output.broken or super().detached

    def pump(self, ready: set[int]) -> None:
        """See :class:`Stdio`."""
        super().pump(ready)
        self._output_ended = self._output_ended or self._output.ended in ready


class _Attachment(Running):
    """A main process that is attached to, as an object; to close it ends the attachment only."""

    def __init__(self, what: str, link: Link, stdin: Writer, stdout: Reader, stderr: Reader, output: _Output) -> None:
        super().__init__(what, link, stdin, stdout, stderr)
        self._output = output

    def close(self) -> Operation[None]:
        """Close the streams and the connection; the process runs on. Idempotent."""
        yield from super().close()
        self._output.stop()
        yield from self._output.wait(_REST_TIMEOUT)


class _Output:
    """Copies what a container prints from now on, out of its log, in a thread of its own.

    So a reader that is slow, or has gone, never keeps the container from writing. The thread ends when the container
    has ended, nothing reads any more, or :meth:`stop` was called, and all that was printed until then is passed on.
    ``targets``: descriptors for output and error output; ``owned``: they are pipes to close at the end.
    """

    def __init__(
        self, store: Store, record: PodRecord, container_id: str, targets: tuple[int, int], owned: bool = False
    ) -> None:
        self._store, self._record, self._container_id = store, record, container_id
        self._targets: list[int] = list(targets)
        self._owned = list(targets) if owned else []
        log = container_log(store.roots, record.id, container_id)
        self._watches: list[int] = []
        self._stopping, self._stop = os.pipe()
        #: Ready to be read when the thread has ended.
        self.ended, self._running = os.pipe()
        #: Whether a target that is not owned cannot be written any more; the thread ends then.
        self.broken = False
        self._thread: threading.Thread | None = None
        try:
            self._watch(log)
        except BaseException:
            self._release()
            os.close(self._stop)
            os.close(self.ended)
            raise

    def _watch(self, log: Path) -> None:
        self._reader = LogReader(log)
        self._watches.append(files.watch(log.parent, growth=True))
        self._watches.append(files.watch(self._store.roots.pod_state_dir(self._record.id)))
        self._reader.skip()

    def start(self) -> None:
        """Begin to copy."""
        self._thread = threading.Thread(target=self._run, name="vc-attach", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let the thread end. Idempotent."""
        if self._stop >= 0:
            os.close(self._stop)
            self._stop = -1
            if self._thread is None:
                self._release()

    def wait(self, timeout: float | None) -> Operation[None]:
        """Wait until the thread has ended, ``timeout`` seconds at most. Idempotent."""
        if self.ended >= 0:
            deadline = None if timeout is None else time.monotonic() + timeout
            try:
                yield Ready(read=[self.ended], deadline=deadline)
            finally:
                os.close(self.ended)
                self.ended = -1

    def _run(self) -> None:
        try:
            over = False
            while not over:
                over = self._is_over()
                for stream, data in self._reader.pieces():
                    self._write(min(stream, 1), data)
                if not over and not self.broken:
                    self._await_change()
        except (VCError, OSError):
            pass  # its log is gone, and with it the container
        finally:
            self._release()

    def _is_over(self) -> bool:
        """Return whether what the log has now is all that is to be copied."""
        if self.broken or self._targets == [-1, -1] or select.select([self._stopping], [], [], 0)[0]:
            return True
        container = find_container(effective_record(self._store.read(self._record.id)), self._container_id)
        began = find_container(self._record, self._container_id).started_at
        return container.state not in LIVE_STATES or container.started_at != began

    def _await_change(self) -> None:
        poll = select.poll()
        for fd in (*self._watches, self._stopping):
            poll.register(fd, select.POLLIN)
        for fd in self._owned:
            poll.register(fd, 0)  # reports when nothing can read it any more
        ready = {fd for fd, _ in poll.poll()}
        for fd in ready & set(self._watches):
            with suppress(BlockingIOError):
                os.read(fd, _CHANGES)
        for fd in ready & set(self._owned):
            self._owned.remove(fd)
            self._targets[self._targets.index(fd)] = -1
            os.close(fd)

    def _write(self, stream: int, data: bytes) -> None:
        view = memoryview(data)
        while view and self._targets[stream] >= 0:
            try:
                view = view[os.write(self._targets[stream], view) :]
            except BlockingIOError:  # a terminal that another program made non-blocking
                select.select([], [self._targets[stream]], [])
            except OSError:
                if self._targets[stream] in self._owned:
                    self._owned.remove(self._targets[stream])
                    os.close(self._targets[stream])
                else:
                    self.broken = True
                self._targets[stream] = -1

    def _release(self) -> None:
        self._reader.close()
        for fd in (*self._watches, *self._owned, self._stopping, self._running):
            os.close(fd)
