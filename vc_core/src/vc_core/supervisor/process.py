"""The supervisor process: ``python -m vc_core.supervisor POD``, in the pod's mount namespace.

Root's is started there; a plain user's enters it, with a user namespace in which it may mount.

Before that it loads its modules, until its starter writes that the pod is stored (``vc_core.client.starting``).

Holds the pod's lock, watches its VM, serves clients on a socket in the pod's run directory, and ends when the pod is
stopped and no request is being served. The starter passes a pipe as ``--ready FD`` and reads from it ``ok``, ``busy``,
or an error as JSON.
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from vc_core import failpoints, trace
from vc_core.driver import descriptor_limit
from vc_core.driver.files import open_regular
from vc_core.errors import BusyError, StorageError, VCError
from vc_core.host import namespaces
from vc_core.plugins import running_call
from vc_core.store.roots import Roots
from vc_core.store.status import vm_identity
from vc_core.store.store import Store
from vc_core.supervisor import wire
from vc_core.supervisor.listener import Listener
from vc_core.supervisor.ready import BUSY, GO, READY_TIMEOUT, send_error, send_status
from vc_core.text import printable

if TYPE_CHECKING:
    import logging

    from vc_core.plugins.registry import Plugins

#: Seconds for which a thread holds the interpreter's lock while another one waits: those that deliver notifications,
#: or read from slow disks, must not hold up the event loop. Python's own value is 5 ms.
_SWITCH_INTERVAL = 0.0005

#: Seconds that a supervisor waits for the lock before its starter looks again for another supervisor.
_LOCK_TIMEOUT = 1.0


def main(argv: list[str]) -> int:
    """Run one supervisor and return its exit status. Called with the collector of garbage disabled."""
    pod_id, ready = argv[0], int(argv[argv.index("--ready") + 1])
    # The default action of SIGALRM ends the process, whatever a plug-in does meanwhile.
    signal.alarm(READY_TIMEOUT)
    sys.setswitchinterval(_SWITCH_INTERVAL)
    trace.join(f"supervisor of pod {pod_id}")
    roots = Roots.from_environment()
    plugins = _wait_for_pod(roots)
    if plugins is None:
        return 0
    gc.freeze()
    gc.enable()
    signal.alarm(READY_TIMEOUT)
    store = Store(roots)
    try:
        with store.locked(pod_id, _LOCK_TIMEOUT):
            failpoints.reach("supervisor.locked")
            record = store.read(pod_id)
            if os.geteuid() != 0:
                namespaces.enter(vm_identity(record))
            _serve(store, pod_id, plugins, ready)
    except BusyError:
        send_status(ready, BUSY)
    except VCError as error:
        send_error(ready, error)
        return 1
    return 0


def _wait_for_pod(roots: Roots) -> Plugins | None:
    """Return the plug-ins once the pod is stored, with its drivers loaded if its configuration came before.

    Returns None when the starter has left without that.
    """
    with trace.span("load modules"):
        from vc_core.decoding import decode_json
        from vc_core.engine import assembly
        from vc_core.plugins.registry import Plugins
        from vc_core.supervisor import loop  # noqa: F401 # loaded here, used below
        from vc_core.supervisor.early import Early

    plugins = None
    for line in sys.stdin.buffer:
        if line == GO:
            return plugins or Plugins()
        early = decode_json(line, Early)
        plugins = Plugins(found=early.found)
        # A plain user's process enters its namespaces later, which it can with one thread only.
        if os.geteuid() == 0:
            with trace.span("load drivers"):
                assembly.load(plugins, early.config, roots)
    return None


def _serve(store: Store, pod_id: str, plugins: Plugins, ready: int) -> None:
    """Listen and supervise, with the pod's lock held. Raises VCError only before it was ready."""
    os.umask(0o077)
    descriptor_limit.raise_own()
    listener, run_dir = Listener(store, pod_id), store.roots.pod_run_dir(pod_id)
    try:
        _detach(run_dir / wire.LOG_NAME)
        failpoints.reach("supervisor.detached")
        from vc_core.supervisor.loop import supervise

        with running_call.record_in(run_dir):
            supervise(store, pod_id, plugins, listener, ready)
    finally:
        # The socket goes before the lock: a client that finds no socket starts a supervisor, which waits for the lock.
        listener.close()
        failpoints.reach("supervisor.socket.removed")


def _detach(log: Path) -> None:
    """Leave the starter's directory, terminal, signals and output; what plug-ins print goes to the log, too."""
    import faulthandler
    import logging

    os.chdir("/")
    for signum in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(signum, signal.SIG_IGN)
    try:
        fd = open_regular(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    except OSError as error:
        raise StorageError(f"log {str(log)!r} cannot be opened: {error.strerror}") from error
    for stream in (1, 2):
        os.dup2(fd, stream)
    os.close(fd)
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.close(null)
    handler = logging.StreamHandler()
    handler.setFormatter(_formatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    faulthandler.enable()  # the stack of a crash goes to the log


def _formatter() -> logging.Formatter:
    """Return the format of the log's lines, in which no text of a guest can steer a terminal or forge a line."""
    import logging

    class Printable(logging.Formatter):
        def formatMessage(self, record: logging.LogRecord) -> str:
            record.message = printable(record.message)
            return super().formatMessage(record)

        def formatException(self, ei: Any) -> str:
            return "\n".join(map(printable, super().formatException(ei).split("\n")))

    return Printable("%(asctime)s %(levelname)s %(name)s: %(message)s")


def end(status: int) -> NoReturn:
    """End this process, for which a client waits: the kernel frees its memory faster than the interpreter would.

    Threads that a plug-in started, unless they are daemons, and functions that it registered have their time before.
    """
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    os._exit(status)
