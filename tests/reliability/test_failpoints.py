"""A process is killed at each named point of its operations: nothing is lost, and nothing is left."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import vc_core
from forked import MOCK, Server
from leftovers import look
from vc_core import failpoints
from vc_core.store.roots import CACHE_VARIABLE, ROOT_VARIABLE
from vc_core.testing.slowness import scaled

CREATE, RUN = ("pod", "create", "--id", "p", *MOCK), ("pod", "run", "--quiet", "--id", "p", *MOCK)
ADD, REMOVE = ("container", "create", "--id", "c", "p"), ("container", "delete", "p", "c")
DELETE, STOP = ("pod", "delete", "p"), ("pod", "stop", "p")

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
    "engine.container.configured": ([CREATE], ADD),
    "engine.container.log_removed": ([CREATE, ADD], REMOVE),
    "engine.container.unrecorded": ([CREATE, ADD], REMOVE),
    "templates.make.begun": ([], MAKE_TEMPLATE),
    "templates.make.described": ([], MAKE_TEMPLATE),
    "templates.make.renamed": ([], MAKE_TEMPLATE),
    "templates.remove.renamed": ([], MAKE_TEMPLATE),
}

#: What has to fail for a point to be reached.
CAUSES = {"engine.undo.taken_down": "engine.start.vm_runs=error;"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    top = tmp_path_factory.mktemp("failpoints")
    with Server({ROOT_VARIABLE: str(top / "root"), CACHE_VARIABLE: str(top / "cache")}, top) as server:
        yield server


def test_every_point_in_the_source_has_a_test_and_a_name_of_its_own() -> None:
    sources = Path(vc_core.__file__).parent.rglob("*.py")
    found = [
        name for source in sources for name in re.findall(r"failpoints\.reach\((.*?)\)", source.read_text("utf-8"))
    ]
    assert sorted(found) == sorted(f'"{name}"' for name in REACHED)


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
    if isinstance(last, str):  # the next maker of a template removes what this one left
        assert server.run(code=last).status == 0
        cache = server.work / "cache"
        assert [path.name for path in (cache / "templates").iterdir()] == []


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
