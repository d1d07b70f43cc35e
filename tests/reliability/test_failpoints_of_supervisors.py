"""A supervisor is killed at each named point of its work, with a VM that is a process which sleeps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import supervised
from forked import Server

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with supervised.server_for_naps(tmp_path_factory.mktemp("supervisors")) as server:
        yield server


@pytest.mark.promise("T03")
@pytest.mark.parametrize("point", supervised.POINTS)
def test_a_supervisor_killed_at_a_point_leaves_a_pod_that_one_other_takes_over(point: str, server: Server) -> None:
    assert supervised.problems(server, point, "nap-daemon" if "discarded" in point else "nap") == []
