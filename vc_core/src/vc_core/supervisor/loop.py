"""Accepts clients; returns when the pod is stopped and no request is being served."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import socket
import threading
from contextlib import suppress

from vc_core import failpoints
from vc_core.engine.engine import Engine
from vc_core.errors import SupervisorError, SupervisorLeavingError, SupervisorLostError, VCError
from vc_core.plugins import event_loop
from vc_core.plugins.quoting import one_line
from vc_core.plugins.registry import Plugins
from vc_core.store.store import Store
from vc_core.supervisor import wire
from vc_core.supervisor.listener import Listener
from vc_core.supervisor.messages import Failure
from vc_core.supervisor.ready import OK, send_error, send_status
from vc_core.supervisor.service import serve

#: Seconds that the supervisor of a pod which does not run waits for the client that started it, and for its request.
_FIRST_CLIENT_TIMEOUT = 5.0

#: Seconds between two looks at whether clients still find the socket. One that finds none tries for much longer.
_SOCKET_INTERVAL = 1.0

#: Seconds for which nobody is accepted when the host has no descriptor for even a refusal.
_ACCEPT_PAUSE = 0.2

#: Most descriptors of one client: its connection, its three streams, and one that is opened anew (see ``streams``).
_OF_A_CLIENT = 5

#: Descriptors that are kept for the VM, logs of containers, and files that are open for a moment.
_OF_THE_POD = 128

#: Seconds for threads that a plug-in started to end with the supervisor, before the process ends without them.
_EXIT_TIMEOUT = 5.0

_log = logging.getLogger(__name__)


def supervise(store: Store, pod_id: str, plugins: Plugins, listener: Listener, ready: int) -> None:
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

    def __init__(self, store: Store, pod_id: str, plugins: Plugins, listener: Listener, ready: int) -> None:
        self._store, self._pod_id, self._plugins, self._listener = store, pod_id, plugins, listener
        #: The pipe to the client that started this process, None once it was written to.
        self._ready: int | None = ready
        self._clients: dict[asyncio.Task[None], socket.socket] = {}
        #: Those of the clients that have sent no request yet, or no further one.
        self._silent: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until the pod is stopped and no request is being served. Raises VCError before it was ready."""
        self._loop = loop = asyncio.get_running_loop()
        try:
            engine = await Engine.open(self._store, self._pod_id, self._plugins)
        except Exception as error:
            if isinstance(error, VCError):
                raise
            message = f"the supervisor of pod {self._pod_id!r} cannot be started: {one_line(error)}"
            raise SupervisorError(message) from error
        signal.alarm(0)  # see READY_TIMEOUT
        failpoints.reach("supervisor.recovered")
        ready, self._ready = self._ready, None
        assert ready is not None
        send_status(ready, OK)
        failpoints.reach("supervisor.ready")
        self._changed = asyncio.Event()
        self._resume = loop.call_soon(self._listen, engine)
        self._look = loop.call_later(_SOCKET_INTERVAL, self._stay_reachable, engine)
        try:
            await self._first_request()
            while True:
                await engine.wait_idle()
                if self._silent.issuperset(self._clients):
                    break
                self._changed.clear()
                await self._changed.wait()
            failpoints.reach("supervisor.idle")
            self._send_away()
        finally:
            self._look.cancel()
            self._resume.cancel()
            loop.remove_reader(self._listener)
            try:
                await engine.aclose()
                failpoints.reach("supervisor.closed")
            except VCError as error:
                _log.error("%s", error)

    async def _first_request(self) -> None:
        """Wait until a client has sent a request, for some seconds at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_CLIENT_TIMEOUT):
                while self._silent.issuperset(self._clients):
                    self._changed.clear()
                    await self._changed.wait()

    def _listen(self, engine: Engine) -> None:
        self._loop.add_reader(self._listener, self._accept, engine)

    def _accept(self, engine: Engine) -> None:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        room = (len(self._clients) + 1) * _OF_A_CLIENT + _OF_THE_POD <= limit
        try:
            sock = self._listener.accept(room)
        except OSError:  # the socket stays readable, so a loop that goes on listening would use all of a CPU
            self._loop.remove_reader(self._listener)
            self._resume = self._loop.call_later(_ACCEPT_PAUSE, self._listen, engine)
            return
        if sock is None:
            return
        task = asyncio.create_task(serve(engine, sock, lambda busy: self._note_request(task, busy)))
        self._clients[task] = sock
        self._silent.add(task)
        task.add_done_callback(self._client_left)

    def _note_request(self, task: asyncio.Task[None], busy: bool) -> None:
        if busy:
            self._silent.discard(task)
        else:
            self._silent.add(task)
        self._changed.set()

    def _stay_reachable(self, engine: Engine) -> None:
        """Make the socket anew when something removed it; end the VM of a pod whose files were removed as well."""
        self._look = self._loop.call_later(_SOCKET_INTERVAL, self._stay_reachable, engine)
        if self._listener.reachable:
            return
        try:
            if not self._store.exists(self._pod_id):
                _log.error("the files of pod %s were removed while it ran; its VM is ended", self._pod_id)
                self._look.cancel()
                self._ending = asyncio.create_task(engine.stop(0.0, force=True))
                return
            self._loop.remove_reader(self._listener)
            try:
                self._listener.renew()
            finally:
                self._listen(engine)
        except (OSError, VCError) as error:
            _log.error("the socket of pod %s was removed: %s", self._pod_id, error)

    def _client_left(self, task: asyncio.Task[None]) -> None:
        del self._clients[task]
        self._silent.discard(task)
        self._changed.set()
        if not task.cancelled() and task.exception() is not None:
            _log.error("serving a client failed", exc_info=task.exception())

    def _send_away(self) -> None:
        """Send the clients that have sent no request that this supervisor ends: it waits for nobody who is silent."""
        error = SupervisorLeavingError(f"pod {self._pod_id!r} was stopped, and its supervisor ends; try again")
        for task in list(self._silent):
            with suppress(OSError):
                wire.send(self._clients[task], Failure.of(error))
            task.cancel()

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
