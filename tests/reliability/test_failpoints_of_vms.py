"""The supervisor of a virtual machine is killed at named points; no machine outlives its pod, and nothing is left.

Each run tries some of the points; ``./dev soak supervisors`` tries all.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import supervised
from forked import Server

pytestmark = pytest.mark.vm("qemu")

POINTS = ("engine.start.vm_runs", "engine.container.started")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with supervised.server_for_vms(tmp_path_factory.mktemp("failpoints")) as server:
        yield server


@pytest.mark.promise("T03")
@pytest.mark.parametrize("point", POINTS)
def test_nothing_is_left_of_a_pod_whose_supervisor_is_killed_at(point: str, server: Server) -> None:
    """The fixture of all tests counts processes, mounts and sockets that name the directory of the tests."""
    assert supervised.problems(server, point) == []
