"""Ends the processes of a pod from outside, for operations that do not wait for a supervisor or a driver."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from vc_core.config.ids import pod_uuid
from vc_core.driver.process import ProcessIdentity, frozen
from vc_core.errors import StorageError, SupervisorError
from vc_core.host import processes
from vc_core.store.records import PodRecord
from vc_core.store.status import at_rest, vm_identity
from vc_core.store.store import Store
from vc_core.supervisor.wire import LOG_NAME

#: Seconds for a process that is killed to end.
_KILL_TIMEOUT = 10.0

#: Seconds for a driver to stop a VM that is no process, the start of Python included.
_STOP_TIMEOUT = 3.0

#: Seconds for a driver to discard a VM that the core cannot find, the start of Python included.
_DISCARD_TIMEOUT = 20.0

#: Seconds from the begin of an operation until a driver must have removed what a VM left beside its processes, and how
#: long it has at least: such as empty control groups, for which nobody should wait long.
_REMAINS_DEADLINE, _REMAINS_MIN = 3.0, 0.5

_log = logging.getLogger(__name__)


def stop_elsewhere(store: Store, pod_id: str) -> None:
    """Stop a pod that has no supervisor in a process of its own, because its driver may hang."""
    with suppress(subprocess.TimeoutExpired):
        _run(store, ["-c", "import sys, vc_core; vc_core.stop_pod(sys.argv[1], force=True)", pod_id], _STOP_TIMEOUT)


def may_have_left(store: Store, pod_id: str) -> bool:
    """Return whether a pod did not stop, and its driver has to find its VM, or what that left beside its processes."""
    try:
        record = store.read(pod_id)
    except StorageError:
        return True
    left = record.discards or record.saved_hypervisor or record.intent == "start"
    return bool(left) and record.supervised and not at_rest(record)


def discard_elsewhere(store: Store, pod_id: str, began: float) -> None:
    """Let the pod's driver discard its VM, whose processes were killed, in a process of its own: it may hang.

    ``began``: when the operation did (of time.monotonic). Why the driver does not do it is logged.
    """
    timeout = _DISCARD_TIMEOUT
    with suppress(StorageError):
        if not store.read(pod_id).discards:
            timeout = max(_REMAINS_MIN, began + _REMAINS_DEADLINE - time.monotonic())
    try:
        output, status = _run(store, ["-m", "vc_core.engine.leftovers", pod_id], timeout, subprocess.PIPE)
        problem = output.decode(errors="replace").strip()
        if not problem and status:
            problem = f"its hypervisor driver ended the process with status {status}"
    except subprocess.TimeoutExpired:
        problem = f"its hypervisor driver did not discard it within {timeout:.1f} s"
    if problem:
        _log.warning("pod %s: its VM, or what that has made, may be left: %s", pod_id, problem)


def _run(store: Store, arguments: list[str], timeout: float, stdout: int = subprocess.DEVNULL) -> tuple[bytes, int]:
    """Run Python in a process; return what it printed, and its status. Raises subprocess.TimeoutExpired."""
    from vc_core.plugins.isolation import communicate

    null, environment = subprocess.DEVNULL, store.roots.environment
    command = [sys.executable, "-P", *arguments]
    with subprocess.Popen(command, stdin=null, stdout=stdout, stderr=null, env=environment) as process:
        try:
            return communicate(process, timeout), process.wait()
        except BaseException:
            process.kill()
            raise


def kill_vms(store: Store, pod_id: str, record: PodRecord | None) -> None:
    """Kill the processes of a pod's VM, recorded or not. Raises SupervisorError for one that cannot be killed."""
    run_dir = store.roots.pod_run_dir(pod_id)
    doomed = set(processes.find_vms(run_dir, pod_uuid(run_dir)))
    if record is not None and (identity := vm_identity(record)) is not None:
        doomed.add(identity)
    for identity in doomed:
        _kill(pod_id, identity)


def end_frozen(store: Store, pod_id: str, force: bool) -> bool:
    """Kill a supervisor that a signal has stopped (SIGSTOP), so that another one can stop the pod.

    With ``force``, or if the VM is frozen too, the VM is killed as well, and its end recorded. Called by a client that
    stops the pod and was not greeted. Returns whether the pod has stopped. Raises SupervisorError for a process that
    cannot be killed, BusyError, StorageError.
    """
    began = time.monotonic()
    if not any(frozen(one.pid) for one in supervisors(store, pod_id)):
        return False
    kill_supervisors(store, pod_id)
    with store.locked(pod_id):
        record = store.read(pod_id)
        vm = vm_identity(record)
        if vm is None or not (force or any(map(frozen, _with_children(vm.pid)))):
            return False
        kill_vms(store, pod_id, record)
        if may_have_left(store, pod_id):
            discard_elsewhere(store, pod_id, began)
        _record_end(store, pod_id)
    return True


def _with_children(pid: int) -> list[int]:
    """Return a process and its children: QEMU is one of the process that stands for its VM."""
    with suppress(OSError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8")
        return [pid, *map(int, children.split())]
    return [pid]


def _record_end(store: Store, pod_id: str) -> None:
    """Record that a pod was stopped, or that its start was undone. Raises StorageError."""
    from vc_core.engine.ledger import Ledger
    from vc_core.plugins.registry import Plugins

    ledger = Ledger(store, pod_id, Plugins())
    if ledger.record.intent == "start":
        ledger.commit_undone(state=ledger.record.state, reason="its start was interrupted")
    else:
        ledger.commit_ended("")


def kill_supervisors(store: Store, pod_id: str) -> None:
    """Kill the supervisors of a pod, ready or not. Raises SupervisorError for one that cannot be killed."""
    for supervisor in supervisors(store, pod_id):
        _kill(pod_id, supervisor)


def supervisors(store: Store, pod_id: str) -> list[ProcessIdentity]:
    """Return the supervisors of a pod, ready or not."""
    log = store.roots.pod_run_dir(pod_id) / LOG_NAME
    return processes.find_supervisors(pod_id, log, store.roots.pod_lock(pod_id))


def _kill(pod_id: str, process: ProcessIdentity) -> None:
    if not process.kill(_KILL_TIMEOUT):
        raise SupervisorError(f"process {process.pid} of pod {pod_id!r} does not end even when killed")
