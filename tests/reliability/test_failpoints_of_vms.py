"""The supervisor of a virtual machine is killed at named points; no machine outlives its pod, and nothing is left.

Each run tries some of the points; ``./dev soak supervisors`` tries all.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import supervised
from forked import Server

pytestmark = pytest.mark.vm("qemu")

POINTS = ("engine.start.vm_runs", "engine.container.started", "engine.container.forgotten")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with supervised.server_for_vms(tmp_path_factory.mktemp("failpoints")) as server:
        yield server


@pytest.mark.promise("T03")
@pytest.mark.parametrize("point", POINTS)
def test_nothing_is_left_of_a_pod_whose_supervisor_is_killed_at(point: str, server: Server) -> None:
    """The fixture of all tests counts processes, mounts and sockets that name the directory of the tests."""
    assert supervised.problems(server, point) == []


@pytest.mark.promise("T03")
@pytest.mark.parametrize("force", [[], ["--force"]], ids=["", "force"])
def test_a_vm_that_is_not_recorded_yet_is_gone_when_its_pod_is_deleted(force: list[str], server: Server) -> None:
    (server.work / "points").unlink(missing_ok=True)  # at each of these a process was killed, which happens once
    assert server.run(code=supervised.creation(server.work, "qemu")).status == 0
    assert server.run(*supervised.START, failpoints="engine.start.prepared=kill").status == 1
    assert server.call(supervised.VMS) == 1
    assert server.run("pod", "delete", *force, "p").status == 0
    assert server.call(supervised.VMS) == 0
