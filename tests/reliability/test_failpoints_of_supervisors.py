"""A supervisor is killed at each named point of its work, with a VM that is a process which sleeps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import supervised
from forked import Server
from leftovers import look
from waiting import wait_until

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with supervised.server_for_naps(tmp_path_factory.mktemp("supervisors")) as server:
        yield server


@pytest.mark.promise("T03")
@pytest.mark.parametrize("point", supervised.POINTS)
def test_a_supervisor_killed_at_a_point_leaves_a_pod_that_one_other_takes_over(point: str, server: Server) -> None:
    assert supervised.problems(server, point, "nap-daemon" if "discarded" in point else "nap") == []


@pytest.mark.parametrize("step", ["run_dir", "renamed", "removed"])
def test_a_forced_delete_leaves_nothing_although_the_supervisor_that_performs_it_is_killed(
    step: str, server: Server
) -> None:
    (server.work / "points").unlink(missing_ok=True)
    assert server.run(code=supervised.creation(server.work, "nap")).status == 0
    assert server.run(*supervised.START, failpoints=f"store.remove.{step}=kill").status == 0
    assert server.run("pod", "delete", "--force", "p").status == 0
    assert f"store.remove.{step}" in (server.work / "points").read_text(encoding="ascii").split()
    assert list((server.work / "root/state/pods").iterdir()) == []
    assert look(server)[2] == []


@pytest.mark.promise("T06")
@pytest.mark.parametrize("step", ["guest_stopped", "vm_ended", "released", "unmounted"])
def test_a_stop_that_fails_at_a_step_keeps_the_pod_with_the_reason_and_can_be_tried_again(
    step: str, server: Server
) -> None:
    (server.work / "points").unlink(missing_ok=True)  # at each of these something happened, which is once
    assert server.run(code=supervised.creation(server.work, "nap")).status == 0
    assert server.run(*supervised.START, failpoints=f"engine.take_down.{step}=error").status == 0
    done = server.run(*supervised.STOP)
    assert (done.status, done.stderr.count("\n")) == (1, 1), done.stderr
    wanted = f"it could not be stopped: [Errno 5] failpoint engine.take_down.{step}"
    if step == "vm_ended":  # which the supervisor sees, and then has nothing more to stop
        wanted = "the VM was stopped"
    wait_until(lambda: wanted in server.run("pod", "status", "p").stdout)
    again = server.run(*supervised.STOP)
    assert again.status == 0 or step == "vm_ended"
    assert server.call(supervised.VMS) == 0
    listed, _, left = look(server)
    assert listed["p"][0] == "stopped"
    assert left == []
