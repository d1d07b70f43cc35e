"""A process is killed at each named point of its operations: nothing is lost, and nothing is left."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import supervised
import vc_core
from forked import MOCK, Server
from leftovers import look
from vc_core import failpoints
from vc_core.store.roots import CACHE_VARIABLE, ROOT_VARIABLE
from vc_core.testing.slowness import scaled

CREATE, RUN = ("pod", "create", "--id", "p", *MOCK), ("pod", "run", "--quiet", "--id", "p", *MOCK)
ADD, REMOVE = ("container", "create", "--id", "c", "p"), ("container", "delete", "p", "c")
DELETE, STOP = ("pod", "delete", "p"), ("pod", "stop", "p")
PAUSE, RESUME = ("pod", "pause", "p"), ("pod", "resume", "p")

#: A template is made and removed without a VM: what its drivers would write is one file.
MAKE_TEMPLATE = """
import os
from pathlib import Path
from vc_core.store.templates import Templates
templates = Templates(Path(os.environ["VIRTCONTAINERS_CACHE"]))
with templates.making("kind", lambda making: None) as making:
    (making / "memory").write_bytes(b"x")
    templates.publish(making, hypervisor="mock", agent="noop", memory=0, vcpus=0, size_max=1)
templates.remove("kind")
"""

#: An image is made and removed as a pull does it, without a registry.
MAKE_IMAGE = """
from vc_core.config.image import ImageReference
from vc_core.store.images import ImageRecord, Images
from vc_core.store.roots import Roots
images, name, digest = Images(Roots.from_environment()), ImageReference.parse("app"), "sha256:" + 64 * "a"
with images.making("image app") as making:
    (making / "rootfs/bin").mkdir(parents=True)
    images.publish(making / "rootfs", ImageRecord(digest=digest, size=1, pulled_at=1.0), name)
images.remove(name)
"""

#: Commands that are executed before, and the one that is killed at the point; a text is Python code.
Steps = tuple[list[tuple[str, ...]], tuple[str, ...] | str]

#: Which operation reaches each point. What begins with "supervised." needs a pod with a process; see the tests of VMs.
REACHED: dict[str, Steps] = {
    "store.write.written": ([], CREATE),
    "store.write.synced": ([CREATE], ADD),
    "store.write.renamed": ([CREATE], ADD),
    "store.create.made": ([], CREATE),
    "store.create.recorded": ([], CREATE),
    "store.create.renamed": ([], CREATE),
    "store.lock.locked": ([], CREATE),
    "store.lock.unlink": ([CREATE], DELETE),
    "store.remove.run_dir": ([CREATE], DELETE),
    "store.remove.renamed": ([CREATE], DELETE),
    "store.remove.removed": ([CREATE], DELETE),
    "engine.start.intended": ([], RUN),
    "engine.start.prepared": ([], RUN),
    "engine.start.recorded": ([], RUN),
    "engine.start.vm_runs": ([], RUN),
    "engine.start.connected": ([], RUN),
    "engine.start.containers_run": ([], RUN),
    "engine.start.running": ([], RUN),
    "engine.undo.taken_down": ([], RUN),
    "engine.stop.begun": ([RUN], STOP),
    "engine.stop.taken_down": ([RUN], STOP),
    "engine.stop.recorded": ([RUN], STOP),
    "engine.pause.recorded": ([RUN], PAUSE),
    "engine.pause.paused": ([RUN], PAUSE),
    "engine.resume.resumed": ([RUN, PAUSE], RESUME),
    "engine.container.configured": ([CREATE], ADD),
    "engine.container.log_removed": ([CREATE, ADD], REMOVE),
    "engine.container.unrecorded": ([CREATE, ADD], REMOVE),
    "images.make.begun": ([], MAKE_IMAGE),
    "images.make.described": ([], MAKE_IMAGE),
    "images.make.renamed": ([], MAKE_IMAGE),
    "images.remove.renamed": ([], MAKE_IMAGE),
    "templates.make.begun": ([], MAKE_TEMPLATE),
    "templates.make.described": ([], MAKE_TEMPLATE),
    "templates.make.renamed": ([], MAKE_TEMPLATE),
    "templates.remove.renamed": ([], MAKE_TEMPLATE),
}

#: The modules of the engine that perform operations; the others compute, or belong to other processes.
STEPS_IN = ("engine", "runtime", "machine", "containers")

#: What changes a process, the guest, mounts or the socket. The record has points of its own, where it is written.
STEPS = {
    *(f"agent.{name}" for name in ("prepare", "start_pod", "stop_pod", "start_container", "remove_container")),
    *(f"agent.{name}" for name in ("exec", "copy", "adopt", "signal", "signal_container", "connect", "wake")),
    *(f"hypervisor.{name}" for name in ("prepare", "start", "stop", "attach", "detach", "pause", "resume")),
    *(f"share.{name}" for name in ("make_shared_dir", "bind_root", "bind_mount", "bind_volume")),
    *(
        "share.unbind",
        "share.unmount_all",
        "quota.limit",
        "quota.lift",
        "leftovers.discard",
        "leftovers.remove_remains",
        "identity.kill",
        "wire.listen",
        "listener.close",
    ),
}

#: Steps without a point in their own function, and why that is no gap.
HAVE_NO_POINT = {
    "machine.connect: agent.connect": "engine.start.connected is in its caller",
    "machine.connect: agent.wake": "engine.start.connected is in its caller",
    "machine.prepare: hypervisor.prepare": "engine.start.prepared is in its caller",
    "machine.start: hypervisor.start": "engine.start.vm_runs is in its caller",
    "machine.reconnect: agent.connect": "engine.recover.connected is in its caller",
    "machine.start_pod: agent.start_pod": "engine.start.pod_started is in its caller",
    "machine.take_down: hypervisor.stop": "engine.take_down.vm_ended is in its caller",
    "containers._attach_root: share.bind_root": "engine.container.shared is in its caller",
    "containers._attach_root: hypervisor.attach": "engine.container.shared is in its caller",
    "containers._share_mounts: share.bind_mount": "engine.container.shared is in its caller",
    "containers.unshare: share.unbind": "engine.container.unshared is in its callers",
    "containers.detach_root: hypervisor.detach": "engine.container.unshared is in its callers",
    "containers._limit: quota.limit": "the next start sets the limits anew, and a deletion lifts them",
    "containers.lift_limits: quota.lift": "a second deletion lifts the limits again",
    "containers.ask_to_end: agent.signal_container": "the next supervisor that stops the pod asks again",
    "machine.exec: agent.exec": "engine.exec.started is in what it calls",
    "machine.copy: agent.copy": "engine.exec.started is in what it calls",
    "machine.end_commands: agent.signal": "a signal leaves nothing behind",
    "machine._kill: agent.signal": "who takes over kills all commands",
    "machine.pause: hypervisor.pause": "engine.pause.paused is in its caller",
    "machine.resume: hypervisor.resume": "engine.resume.resumed is in its caller",
    "engine.signal: agent.signal": "a signal leaves nothing behind",
    "engine.signal_container: agent.signal_container": "a signal leaves nothing behind",
}

#: What has to fail for a point to be reached.
CAUSES = {"engine.undo.taken_down": "engine.start.vm_runs=error;"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    top = tmp_path_factory.mktemp("failpoints")
    with Server({ROOT_VARIABLE: str(top / "root"), CACHE_VARIABLE: str(top / "cache")}, top) as server:
        yield server


@pytest.mark.promise("T03")
def test_every_point_in_the_source_has_a_test_and_a_name_of_its_own() -> None:
    sources = Path(vc_core.__file__).parent.rglob("*.py")
    found = [
        name for source in sources for name in re.findall(r"failpoints\.reach\((.*?)\)", source.read_text("utf-8"))
    ]
    assert sorted(found) == sorted(f'"{name}"' for name in [*REACHED, *supervised.POINTS])


@pytest.mark.promise("T03")
def test_every_step_of_a_supervisor_that_changes_something_is_followed_by_a_point() -> None:
    package = Path(vc_core.__file__).parent
    sources = [*(package / "supervisor").glob("*.py"), *(package / "engine" / f"{name}.py" for name in STEPS_IN)]
    without = {
        f"{source.stem}.{function.name}: {step}"
        for source in sources
        for function in ast.walk(ast.parse(source.read_text("utf-8")))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for step in steps_without_a_point(function)
    }
    assert without == set(HAVE_NO_POINT)


def steps_without_a_point(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """Yield what a function does to process, guest, mounts or socket without a point behind it in the same function."""
    used = [node for node in ast.walk(function) if isinstance(node, ast.Attribute)]
    points = [one.lineno for one in used if ast.unparse(one) == "failpoints.reach"]
    for one in used:
        name = ".".join(ast.unparse(one).split(".")[-2:])
        if name in STEPS and not any(line > one.lineno for line in points):
            yield name


@pytest.mark.promise("T03")
@pytest.mark.parametrize("point", REACHED)
def test_nothing_is_lost_or_left_when_a_process_is_killed_at(point: str, server: Server) -> None:
    before, last = REACHED[point]
    for command in before:
        assert server.run(*command).status == 0
    setting = f"{CAUSES.get(point, '')}{point}=kill"
    arguments, code = ((), last) if isinstance(last, str) else (last, "")
    done = server.run(*arguments, code=code, failpoints=setting)
    assert done.status == -9, done.stderr
    listed, seconds, left = look(server)
    assert all(state != "failed" for state, _ in listed.values()), listed
    assert seconds < scaled(5.0)
    assert left == []
    if isinstance(last, str):  # the next maker removes what this one left
        assert server.run(code=last).status == 0
        assert all(not any(kinds.iterdir()) for kinds in (server.work / "cache").glob("templates"))


@pytest.mark.parametrize("point", ["store.write.written", *(point for point in REACHED if "create" in point)])
def test_a_pod_whose_creation_fails_is_not_there_at(point: str, server: Server) -> None:
    done = server.run(*CREATE, failpoints=f"{point}=error")
    assert done.status == 1
    assert re.fullmatch(r"virtc: .*\n", done.stderr)
    assert look(server)[::2] == [{}, []]


def test_another_action_than_those_is_refused() -> None:
    with pytest.raises(ValueError, match="'a=explode'"):
        failpoints.configure("a=explode")


def test_a_count_lets_a_process_reach_a_point_before(server: Server) -> None:
    assert server.run(*CREATE, failpoints="store.write.written=3*kill").status == 0  # it writes two files
    assert server.run(*DELETE).status == 0
    assert server.run(*CREATE, failpoints="store.write.written=2*kill").status == -9
    assert look(server)[::2] == [{}, []]
