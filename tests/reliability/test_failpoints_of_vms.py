"""The supervisor of a virtual machine is killed at named points; no machine outlives its pod, and nothing is left."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from forked import Server
from leftovers import look
from vc_core.store.roots import ROOT_VARIABLE
from vc_core.testing.slowness import scaled

pytestmark = pytest.mark.vm("qemu")

CREATE = 'import vc_core as vc; vc.create_pod(vc.PodConfig(id="p"))'  # without containers, which need an image
START, STOP = ("pod", "start", "p"), ("pod", "stop", "p")

#: The points between two steps that change the process of a VM, and the state of the pod after the supervisor's death.
POINTS = {
    "engine.start.intended": "ready",
    "engine.start.prepared": "ready",
    "engine.start.recorded": "ready",
    "engine.start.vm_runs": "ready",
    "engine.start.running": "running",
    "engine.stop.begun": "running",
    "engine.stop.taken_down": "stopped",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    top = tmp_path_factory.mktemp("failpoints")
    with Server({ROOT_VARIABLE: str(top / "root")}, top) as server:
        yield server


@pytest.mark.parametrize("point", POINTS)
def test_nothing_is_left_of_a_pod_whose_supervisor_is_killed_at(point: str, server: Server) -> None:
    """The fixture of all tests counts processes, mounts and sockets that name the directory of the tests."""
    created = server.run(code=CREATE)
    assert created.status == 0, created.stderr
    done = server.run(*START, failpoints=f"{point}=kill")  # its supervisor gets the variable
    if point.startswith("engine.stop"):
        assert done.status == 0, done.stderr
        done = server.run(*STOP)
    assert done.status == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    listed, seconds, left = look(server)
    assert listed["p"][0] == POINTS[point]
    assert seconds < scaled(5.0)
    assert left == []
