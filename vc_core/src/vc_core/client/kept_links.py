"""Connections that have served a command, and wait for this process' next one in the same pod.

To read the pod's record, connect and be greeted takes as long as a tenth of a short command. The supervisor closes a
connection that waits for too long (``supervisor.service``), so what is kept here may be closed already.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from vc_core.client.connect import SUPERVISOR_TIMEOUT, greeted
from vc_core.client.interpreters import Operation
from vc_core.client.link import Link
from vc_core.errors import SupervisorLostError

#: Most connections that are kept, of as many pods; each has three descriptors. The one used least recently is closed.
KEPT_MAX = 8

#: By the run directory of the pod, in the order of their last use.
_kept: dict[Path, Link] = {}
_lock = threading.Lock()


def keep(run_dir: Path, link: Link) -> None:
    """Keep a connection whose last request was answered. Another one of the pod is closed."""
    with _lock:
        surplus = [_kept.pop(run_dir, None)]
        _kept[run_dir] = link
        if len(_kept) > KEPT_MAX:
            surplus.append(_kept.pop(next(iter(_kept))))
    for one in surplus:
        if one is not None:
            one.release()


def resume(run_dir: Path, send: Callable[[Link], None]) -> Operation[Link | None]:
    """Return the pod's kept connection, on which ``send`` has sent a request that the supervisor has read.

    Returns None if no connection is kept, or the supervisor closed it before it read the request, which then had no
    effect. Raises what ``send`` and the supervisor raise.
    """
    link = _take(run_dir)
    if link is None:
        return None

    def send_if_silent(link: Link) -> None:
        if link.poll() is not None:
            raise SupervisorLostError("the pod's supervisor sent that it ends")
        send(link)

    return (yield from greeted(link, time.monotonic() + SUPERVISOR_TIMEOUT, send_if_silent))


def close(run_dir: Path) -> None:
    """Close the kept connection of a pod. Called when the pod is deleted."""
    if (link := _take(run_dir)) is not None:
        link.release()


def close_all() -> None:
    """Close all connections that are kept. Called at the end of the process, and by who counts its descriptors."""
    with _lock:
        links = list(_kept.values())
        _kept.clear()
    for link in links:
        link.release()


def _take(run_dir: Path) -> Link | None:
    with _lock:
        return _kept.pop(run_dir, None)


def _forked() -> None:
    """Close the connections in a forked process: two that send on one would get each other's answers."""
    _lock.release()
    close_all()


atexit.register(close_all)
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_forked)
