"""Accepts clients; returns when the pod is stopped and no request is being served."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket

from vc_core.engine.engine import Engine
from vc_core.errors import SupervisorError, VCError
from vc_core.plugins.quoting import one_line
from vc_core.plugins.registry import Plugins
from vc_core.store.store import Store
from vc_core.supervisor.ready import OK, send_status
from vc_core.supervisor.service import serve

#: Seconds that the supervisor of a pod which does not run waits for the client that started it.
_FIRST_CLIENT_TIMEOUT = 5.0

_log = logging.getLogger(__name__)


async def supervise(store: Store, pod_id: str, listener: socket.socket, ready: int) -> None:
    """Supervise one pod. Called with its lock held and its socket listening.

    ``ready`` is the pipe to the client that started this process. Raises VCError before it was ready.
    """
    plugins = Plugins()
    try:
        await _supervise(store, pod_id, plugins, listener, ready)
    except VCError:
        raise
    except BaseException:  # SystemExit too, which a plug-in's task may raise
        _log.exception("the supervisor ends by an exception")
        raise
    finally:
        plugins.drain()  # no request is being served any more


async def _supervise(store: Store, pod_id: str, plugins: Plugins, listener: socket.socket, ready: int) -> None:
    loop = asyncio.get_running_loop()
    try:
        engine = await Engine.open(store, pod_id, plugins)
    except Exception as error:
        if isinstance(error, VCError):
            raise
        raise SupervisorError(f"the supervisor of pod {pod_id!r} cannot be started: {one_line(error)}") from error
    signal.alarm(0)  # see READY_TIMEOUT
    send_status(ready, OK)
    clients: set[asyncio.Task[None]] = set()
    changed = asyncio.Event()

    def accept() -> None:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        task = asyncio.create_task(serve(engine, sock))
        clients.add(task)
        task.add_done_callback(ended)
        changed.set()

    def ended(task: asyncio.Task[None]) -> None:
        clients.discard(task)
        changed.set()
        if not task.cancelled() and task.exception() is not None:
            _log.error("serving a client failed", exc_info=task.exception())

    loop.add_reader(listener, accept)
    try:
        await _first_client(changed)
        while True:
            await engine.wait_idle()
            if not clients:
                break
            changed.clear()
            await changed.wait()
    finally:
        loop.remove_reader(listener)
        try:
            await engine.aclose()
        except VCError as error:
            _log.error("%s", error)


async def _first_client(changed: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(changed.wait(), _FIRST_CLIENT_TIMEOUT)
    except TimeoutError:
        return
