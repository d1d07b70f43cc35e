"""The console of a pod's guest: what it printed, and what a person types there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress

from vc_core.client.connect import connect
from vc_core.client.interpreters import InThread, Operation, Ready
from vc_core.client.link import final_reply, result
from vc_core.driver.rotating import RotatedReader
from vc_core.errors import NotSupportedError, StorageError
from vc_core.states import Action
from vc_core.store import files
from vc_core.store.status import effective_record, require, vm_identity
from vc_core.store.store import Store
from vc_core.supervisor.messages import Streams, WriteConsole

#: Bytes of notifications of changes, and of what was typed, that one read takes.
_CHUNK = 64 * 1024

#: Seconds for the supervisor to log the last words of a VM that has ended, and to record its end.
_LAST_WORDS = 2.0

#: What ends typing: Ctrl-], as in telnet and virsh.
ESCAPE = b"\x1d"


class Console:
    """What a guest printed on its console, for one reader: :meth:`following` returns it in parts, b"" at the end.

    ``follow``: wait for more until the VM ends.
    """

    def __init__(self, pod_id: str, *, follow: bool = False) -> None:
        """Find the console's log. Raises PodNotFoundError, StorageError, NotSupportedError where there is none."""
        self._store, self._pod_id = Store.here(), pod_id
        record = effective_record(self._store.read(pod_id))
        self._log = self._store.roots.pod_run_dir(pod_id) / "console.log"
        if not self._log.exists():
            raise NotSupportedError(
                f"pod {pod_id!r} is {record.state} and has no log of a console: hypervisor {record.hypervisor!r} "
                "writes it from a start on, if its VMs have a console"
            )
        self._reader = RotatedReader(self._log)
        self._open = ExitStack()
        self._open.callback(self._reader.close)
        identity = vm_identity(record) if follow else None
        self._pidfd = identity.open_pidfd() if identity is not None else None
        self._watches: list[int] = []
        if self._pidfd is not None:
            self._open.callback(os.close, self._pidfd)
            for directory, growth in ((self._log.parent, True), (self._store.roots.pod_state_dir(pod_id), False)):
                self._watches.append(files.watch(directory, growth))
                self._open.callback(os.close, self._watches[-1])

    def following(self) -> Operation[bytes]:
        """Return what was printed since the last call, once there is something; b"" at the end. Raises StorageError."""
        while True:
            data = yield from self._take()
            if data or self._pidfd is None:
                return data
            yield from self._wait()

    def converse(self, typed: int, show: Callable[[bytes], None]) -> Operation[None]:
        """Call ``show`` with what is printed, and write to the console what the descriptor ``typed`` yields.

        Returns when the VM ends, ``typed`` does, or Ctrl-] is typed. Made with ``follow``.
        Raises StateError, NotSupportedError of a hypervisor whose consoles cannot be written, HypervisorError,
        SupervisorError, StorageError.
        """
        record = effective_record(self._store.read(self._pod_id))
        require(record, Action.WRITE_CONSOLE)
        link = yield from connect(self._store, record)
        try:
            reader, writer = os.pipe2(os.O_CLOEXEC)
            with ExitStack() as pipe:
                pipe.callback(os.close, writer)
                try:
                    link.send(WriteConsole(streams=Streams(passed=(True, False, False))), [reader])
                finally:
                    os.close(reader)
                socket, final = link.sock.fileno(), None
                while final is None:
                    while data := (yield from self._take()):
                        show(data)
                    if self._pidfd is None:
                        return
                    ready = yield from self._wait([socket, *([typed] if typed >= 0 else [])])
                    if socket in ready and (reply := link.poll()) is not None:
                        final = final_reply(reply, None)
                    if typed in ready:
                        keys, escape, _ = os.read(typed, _CHUNK).partition(ESCAPE)
                        os.write(writer, keys)
                        if escape:
                            return
                        if not keys:  # the request is answered when all of it is written
                            pipe.close()
                            typed = -1
            result(final)
        finally:
            yield from link.close()

    def _take(self) -> Operation[bytes]:
        try:
            data: bytes = yield InThread(lambda: b"".join(self._reader.read()))
        except OSError as error:
            raise StorageError(f"log {str(self._log)!r} cannot be read: {error.strerror}") from error
        return data

    def _wait(self, more: Sequence[int] = ()) -> Operation[set[int]]:
        """Return which descriptors can be read: those of ``more``, and those of a log that may have grown."""
        assert self._pidfd is not None
        log, state = self._watches
        ready: set[int] = yield Ready(read=[self._pidfd, log, state, *more])
        for watch in ready & {log, state}:
            with suppress(BlockingIOError):
                os.read(watch, _CHUNK)
        if self._pidfd in ready:
            self._pidfd = None
            if state not in ready:
                yield Ready(read=[state], deadline=time.monotonic() + _LAST_WORDS)
        return ready

    def close(self) -> Operation[None]:
        """Release what is open. Idempotent."""
        yield InThread(self._open.close)
