"""Accepts clients; returns when the pod is stopped and no request is being served."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from contextlib import suppress

from vc_core.engine.engine import Engine
from vc_core.errors import SupervisorError, SupervisorLostError, VCError
from vc_core.plugins import event_loop
from vc_core.plugins.quoting import one_line
from vc_core.plugins.registry import Plugins
from vc_core.store.store import Store
from vc_core.supervisor import wire
from vc_core.supervisor.messages import Failure
from vc_core.supervisor.ready import OK, send_error, send_status
from vc_core.supervisor.service import serve

#: Seconds that the supervisor of a pod which does not run waits for the client that started it.
_FIRST_CLIENT_TIMEOUT = 5.0

#: Seconds for threads that a plug-in started to end with the supervisor, before the process ends without them.
_EXIT_TIMEOUT = 5.0

_log = logging.getLogger(__name__)


def supervise(store: Store, pod_id: str, plugins: Plugins, listener: socket.socket, ready: int) -> None:
    """Supervise one pod. Called with its lock held and its socket listening.

    ``ready`` is the pipe to the client that started this process. Raises VCError before it was ready.
    """
    supervision = _Supervision(store, pod_id, plugins, listener, ready)
    try:
        watchdog = event_loop.Watchdog(supervision.give_up)
        event_loop.run(supervision.run(), watchdog, on_stopped=supervision.report_end)
    except VCError:
        raise
    except BaseException:  # SystemExit too, which a plug-in's task may raise
        _log.exception("the supervisor ends by an exception")
        raise
    finally:
        plugins.drain()  # no request is being served any more
        timer = threading.Timer(_EXIT_TIMEOUT, os._exit, [0])
        timer.daemon = True
        timer.start()


class _Supervision:
    """The work of one supervisor: its engine, and the clients that it serves."""

    def __init__(self, store: Store, pod_id: str, plugins: Plugins, listener: socket.socket, ready: int) -> None:
        self._store, self._pod_id, self._plugins, self._listener = store, pod_id, plugins, listener
        #: The pipe to the client that started this process, None once it was written to.
        self._ready: int | None = ready
        self._clients: dict[asyncio.Task[None], socket.socket] = {}

    async def run(self) -> None:
        """Serve until the pod is stopped and no request is being served. Raises VCError before it was ready."""
        loop = asyncio.get_running_loop()
        try:
            engine = await Engine.open(self._store, self._pod_id, self._plugins)
        except Exception as error:
            if isinstance(error, VCError):
                raise
            message = f"the supervisor of pod {self._pod_id!r} cannot be started: {one_line(error)}"
            raise SupervisorError(message) from error
        signal.alarm(0)  # see READY_TIMEOUT
        ready, self._ready = self._ready, None
        assert ready is not None
        send_status(ready, OK)
        self._changed = asyncio.Event()
        loop.add_reader(self._listener, self._accept, engine)
        try:
            await _first_client(self._changed)
            while True:
                await engine.wait_idle()
                if not self._clients:
                    break
                self._changed.clear()
                await self._changed.wait()
        finally:
            loop.remove_reader(self._listener)
            try:
                await engine.aclose()
            except VCError as error:
                _log.error("%s", error)

    def _accept(self, engine: Engine) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        task = asyncio.create_task(serve(engine, sock))
        self._clients[task] = sock
        task.add_done_callback(self._client_left)
        self._changed.set()

    def _client_left(self, task: asyncio.Task[None]) -> None:
        del self._clients[task]
        self._changed.set()
        if not task.cancelled() and task.exception() is not None:
            _log.error("serving a client failed", exc_info=task.exception())

    def give_up(self, error: VCError) -> None:
        """Send an error to all clients and end this process; the next operation starts another supervisor.

        Called by the watchdog on its thread, when a plug-in blocks the event loop: only the loop's own thread could
        release anything. The pod's lock ends with the process, and its VM runs on.
        """
        self._send_to_all(error)
        os._exit(1)

    def report_end(self, why: str) -> None:
        """Send all clients the error that this supervisor ends, because a plug-in has stopped its event loop."""
        self._send_to_all(SupervisorLostError(f"the pod's supervisor ended, because {why}"))

    def _send_to_all(self, error: VCError) -> None:
        _log.error("%s; this supervisor ends", error)
        ready, self._ready = self._ready, None
        if ready is not None:
            send_error(ready, error)
        for sock in list(self._clients.values()):
            with suppress(OSError):
                wire.send(sock, Failure.of(error))


async def _first_client(changed: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(changed.wait(), _FIRST_CLIENT_TIMEOUT)
    except TimeoutError:
        return
