"""containerd runs containers in virtual machines: what ctr can do, end to end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from containerd_host import IMAGE, Containerd
from containerd_host import containerd as made_containerd
from engine_host import MARKS, wait_for

pytestmark = [pytest.mark.needs("containerd"), *MARKS]


@pytest.fixture(scope="module")
def containerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containerd]:
    with made_containerd(tmp_path_factory.mktemp("ctr")) as made:
        yield made


def test_a_container_of_ctr_runs_in_a_vm_with_all_that_ctr_does_to_it(containerd: Containerd) -> None:
    host = containerd.host
    runtime = ["--runtime", "io.containerd.runc.v2", "--runc-binary", str(host.runtime)]
    runtime += ["--runc-root", f"{host.top}/records", "--cgroup", f"{host.cgroup}/c1"]
    script = 'trap "exit 9" TERM; echo up; while true; do sleep 0.1; done'
    containerd.ctr("run", "--detach", *runtime, IMAGE, "c1", "sh", "-c", script)
    (pod,) = host.pods()
    assert host.records() == ["c1"]
    assert pod.startswith("c1-")
    fields = containerd.ctr("task", "ls").splitlines()[1].split()
    assert (fields[0], fields[2]) == ("c1", "RUNNING")
    assert containerd.ctr("task", "ps", "c1").splitlines()[1].split()[0] == fields[1]
    command = ("task", "exec", "--exec-id", "e1", "c1", "sh", "-c")
    assert containerd.ctr(*command, "cat; echo out", given="in") == "inout"
    assert containerd.run(*command, "exit 3", check=False).returncode == 3
    memory = next(line for line in containerd.ctr("task", "metrics", "c1").splitlines() if "memory.usage" in line)
    assert int(memory.split()[1]) > 2**25  # that of the whole VM
    containerd.ctr("task", "pause", "c1")
    assert containerd.ctr("task", "ls").split()[-1] == "PAUSED"
    containerd.ctr("task", "resume", "c1")
    containerd.ctr("task", "kill", "c1")
    wait_for(lambda: containerd.ctr("task", "ls").split()[-1] == "STOPPED", "it has not ended")
    assert "exit code 9" in containerd.run("task", "delete", "c1").stderr
    containerd.ctr("container", "delete", "c1")
    assert host.pods() == []
    assert host.records() == []


def test_what_a_container_writes_is_in_a_snapshot_that_is_a_directory(containerd: Containerd) -> None:
    host = containerd.host
    runtime = ["--runtime", "io.containerd.runc.v2", "--runc-binary", str(host.runtime), "--snapshotter", "native"]
    runtime += ["--runc-root", f"{host.top}/records", "--cgroup", f"{host.cgroup}/c2"]
    containerd.ctr("run", *runtime, IMAGE, "c2", "sh", "-c", "echo kept >/kept; chown 7:8 /kept")
    (kept,) = host.top.glob("root/io.containerd.snapshotter.v1.native/snapshots/*/kept")
    assert (kept.read_text(encoding="utf-8"), kept.stat().st_uid, kept.stat().st_gid) == ("kept\n", 7, 8)
    containerd.ctr("container", "delete", "c2")
    assert host.pods() == []
