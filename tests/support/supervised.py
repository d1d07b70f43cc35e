"""The points of a supervisor at which a test kills it, how each is reached, and what has to hold afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nap
from forked import Done, Server
from leftovers import look
from vc_core.failpoints import LOG_VARIABLE
from vc_core.store.roots import ROOT_VARIABLE
from vc_core.testing.rootfs import make_root_fs
from vc_core.testing.slowness import scaled

START, STOP = ("pod", "start", "p"), ("pod", "stop", "p")
START_CONTAINER, STOP_CONTAINER = ("container", "start", "p", "c2"), ("container", "stop", "p", "c1")
REMOVE = ("container", "delete", "--force", "p", "c1")
ENTER = ("container", "enter", "p", "c1", "--", "true")

#: Python code that runs as a command: adds a second container like the first.
ADD = """
import dataclasses
import vc_core as vc
vc.create_container("p", dataclasses.replace(vc.inspect_pod("p").containers[0], id="c2"))
"""

#: Python code that runs as a command: ends the supervisor, or the VM, as a failure would, and waits for that.
_KILL = """
from vc_core.host import processes
from vc_core.store.status import vm_identity
from vc_core.store.store import Store
from vc_core.supervisor.wire import LOG_NAME
store = Store.here()
log = store.roots.pod_run_dir("p") / LOG_NAME
for one in {}:
    assert one.kill(10)
"""
_SUPERVISORS = 'processes.find_supervisors("p", log, store.roots.pod_lock("p"))'
KILL_SUPERVISOR = _KILL.format(_SUPERVISORS)
KILL_VM = (
    _KILL.format('[vm_identity(store.read("p"))]')
    + f"""
import time
end = time.monotonic() + 60
while {_SUPERVISORS}:  # which record that the VM has ended
    assert time.monotonic() < end
    time.sleep(0.01)
"""
)

#: Commands; those of the second list have the point set, for themselves and for the supervisors that they start.
Steps = tuple[list[str | tuple[str, ...]], list[str | tuple[str, ...]]]

_STARTS: Steps = [], [START]
_STOPS: Steps = [], [START, STOP]
_RECOVERS: Steps = [START, KILL_SUPERVISOR], [ENTER]
_VM_ENDS: Steps = [], [START, KILL_VM]

#: A start that is interrupted when the VM is on record; the next one ends it.
_INTERRUPTED = "engine.start.recorded=kill"

#: How each point is reached at which a supervisor is killed whose VM is a process that sleeps.
POINTS: dict[str, Steps] = {
    "supervisor.socket.made": _STARTS,
    "supervisor.locked": _STARTS,
    "supervisor.detached": _STARTS,
    "supervisor.recovered": _STARTS,
    "supervisor.ready": _STARTS,
    "supervisor.idle": _STOPS,
    "supervisor.closed": _STOPS,
    "supervisor.socket.removed": _STOPS,
    "engine.recover.unmounted": _STARTS,
    "engine.recover.killed": ([], [START, START]),
    "engine.recover.discarded": ([], [START, START]),
    "engine.recover.remains_removed": ([], [START, START]),
    "engine.recover.connected": _RECOVERS,
    "engine.start.shared": _STARTS,
    "engine.start.volume_bound": _STARTS,
    "engine.start.agent_prepared": _STARTS,
    "engine.start.root_bound": _STARTS,
    "engine.start.pod_started": _STARTS,
    "engine.container.shared": _STARTS,
    "engine.container.started": _STARTS,
    "engine.container.signalled": ([], [START, STOP_CONTAINER]),
    "engine.container.ended": ([], [START, STOP_CONTAINER]),
    "engine.container.forgotten": ([], [START, REMOVE]),
    "engine.container.unshared": ([], [START, REMOVE]),
    "engine.container.adopted": _RECOVERS,
    "engine.container.undone": ([], [START, ADD, START_CONTAINER]),
    "engine.exec.started": ([], [START, ENTER]),
    "engine.take_down.guest_stopped": _STOPS,
    "engine.take_down.vm_ended": _STOPS,
    "engine.take_down.released": _STOPS,
    "engine.take_down.unmounted": _STOPS,
    "engine.watch.vm_ended": _VM_ENDS,
    "engine.watch.recorded": _VM_ENDS,
}

#: Points at which other tests kill a client whose pod has no supervisor; here a supervisor with a real VM is killed.
OF_ANY_ENGINE: dict[str, Steps] = {
    "engine.start.intended": _STARTS,
    "engine.start.prepared": _STARTS,
    "engine.start.recorded": _STARTS,
    "engine.start.vm_runs": _STARTS,
    "engine.start.connected": _STARTS,
    "engine.start.containers_run": _STARTS,
    "engine.start.running": _STARTS,
    "engine.stop.begun": _STOPS,
    "engine.stop.taken_down": _STOPS,
    "engine.stop.recorded": _STOPS,
}

#: What else has to happen for a point to be reached.
CAUSES = {
    "engine.recover.killed": f"{_INTERRUPTED};",
    "engine.recover.discarded": f"{_INTERRUPTED};",
    "engine.recover.remains_removed": f"{_INTERRUPTED};",
    "engine.container.undone": "engine.container.shared=2*error;",
}

#: Prints how many VMs the pod has, recorded or not.
VMS = """
from vc_core.config.ids import pod_uuid
from vc_core.host import processes
from vc_core.store.store import Store
run_dir = Store.here().roots.pod_run_dir("p")
print(len(processes.find_vms(run_dir, pod_uuid(run_dir))))
"""

#: Prints what a new supervisor finds: the pod's state and reason, how many VMs it had and has, how many supervisors.
_AFTER = """
import contextlib, json
import vc_core as vc
from vc_core.config.ids import pod_uuid
from vc_core.host import processes
from vc_core.store.store import Store
from vc_core.supervisor.wire import LOG_NAME
store = Store.here()
run_dir, lock = store.roots.pod_run_dir("p"), store.roots.pod_lock("p")
before, vms = vc.status_pod("p"), [len(processes.find_vms(run_dir, pod_uuid(run_dir)))]
def enter():
    assert vc.enter_container("p", "c1", vc.Cmd(args=["true"])).exit_code == 0

if before.state == "running":
    try:
        enter()
    except (vc.StateError, vc.CommandError):  # it was stopped, which the supervisor that was killed did not record
        with contextlib.suppress(vc.StateError):
            vc.wait_container("p", "c1")
        if vc.status_pod("p").state == "running":
            vc.start_container("p", "c1")
            enter()
        else:  # so was the pod
            vc.start_pod("p")
else:
    vc.start_pod("p")
vms.append(len(processes.find_vms(run_dir, pod_uuid(run_dir))))
supervisors = processes.find_supervisors("p", run_dir / LOG_NAME, lock)
print(json.dumps([before.state, before.reason, vms, len(supervisors)]))
"""


@contextmanager
def server_for_naps(top: Path) -> Iterator[Server]:
    """Yield a server of pods whose VM is a process that sleeps. ``top``: a directory for its files."""
    with Server({**_variables(top), **furnish_naps(top)}, top) as server:
        yield server


def furnish_naps(top: Path) -> dict[str, str]:
    """Make what pods need whose VM is a process that sleeps; return the variables of a server for them."""
    nap.install(top / "site")
    for name in ("kernel", "image"):
        (top / name).touch()
    for name in ("rootfs", "volume"):
        (top / name / "bin").mkdir(parents=True)
    return {"PYTHONPATH": str(top / "site")}


@contextmanager
def server_for_vms(top: Path) -> Iterator[Server]:
    """Yield a server of pods with a real VM of qemu. ``top``: a directory for its files."""
    make_root_fs(top / "rootfs")
    (top / "volume").mkdir()
    with Server(_variables(top), top) as server:
        yield server


def _variables(top: Path) -> dict[str, str]:
    return {ROOT_VARIABLE: str(top / "root"), LOG_VARIABLE: str(top / "points")}


def creation(top: Path, hypervisor: str) -> str:
    """Return Python code that makes a pod with all that a supervisor has steps for."""
    drivers, boot = "", ""
    if hypervisor != "qemu":
        drivers = f'hypervisor_type="{hypervisor}", agent_type="noop",'
        boot = f'kernel_path="{top}/kernel", image_path="{top}/image"'
    return f"""
import vc_core as vc
vc.create_pod(vc.PodConfig(
    id="p", {drivers}
    hypervisor_config=vc.HypervisorConfig({boot}),
    root_fs="{top}/rootfs",
    volumes=[vc.Volume("tag", "{top}/volume")],
    containers=[vc.ContainerConfig(id="c1", root_fs="{top}/rootfs", cmd=vc.Cmd(args=["sleep", "10000"]))],
))
"""


def problems(server: Server, point: str, hypervisor: str = "qemu") -> list[str]:
    """Kill the supervisor of a pod of this hypervisor, on a server for it, at a point; return what is wrong."""
    log = server.work / "points"
    log.unlink(missing_ok=True)
    before, meanwhile = {**POINTS, **OF_ANY_ENGINE}[point]
    for command in (creation(server.work, hypervisor), *before):
        done = _run(server, command, "")
        if done.status:
            return [f"{command} failed before: {done.stderr}"]
    found = []
    for command in meanwhile:
        done = _run(server, command, f"{CAUSES.get(point, '')}{point}=kill")
        if done.status and len(done.stderr.splitlines()) != 1:
            found.append(f"not one sentence: {done.stderr!r}")
    if point not in (log.read_text(encoding="ascii").split() if log.exists() else ()):
        found.append("the point was not reached")
    state, reason, vms, supervisors = server.call(_AFTER)
    if state == "failed":
        found.append(f"the pod failed: {reason}")
    if vms[0] > 1 or vms[1] != 1:
        found.append(f"VMs before and after: {vms}")
    if supervisors != 1:
        found.append(f"supervisors: {supervisors}")
    listed, seconds, left = look(server)
    if "p" not in listed:
        found.append("the pod is not listed")
    if seconds > scaled(5.0):
        found.append(f"it was deleted in {seconds:.1f} s")
    return [*found, *(f"left: {path}" for path in left)]


def _run(server: Server, command: str | tuple[str, ...], failpoints: str) -> Done:
    if isinstance(command, str):
        return server.run(code=command, failpoints=failpoints)
    return server.run(*command, failpoints=failpoints)
