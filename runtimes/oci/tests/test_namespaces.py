"""A container joins the network of another, and with it its VM, but never that of the host."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from vc_core.driver import ProcessIdentity
from vc_runtime.faults import Refused, RuntimeFault
from vc_runtime.namespaces import sharer
from vc_runtime.records import Record, Shim


@pytest.fixture
def process() -> Iterator[int]:
    """Return the pid of a process in a network namespace of its own."""
    command = ["unshare", "--net", "sh", "-c", "echo; exec sleep 1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as made:
        assert made.stdout is not None
        made.stdout.readline()
        yield made.pid
        made.kill()


def record(name: str, pid: int, sandbox: str = "") -> Record:
    identity = ProcessIdentity.of(pid)
    assert identity is not None
    shim = Shim(identity.pid, identity.start_time, identity.boot_id)
    return Record(id=name, bundle="", pod=sandbox or name, container=name, sandbox=sandbox, shim=shim)


@pytest.mark.root
@pytest.mark.needs("unshare")
def test_a_container_shares_the_vm_of_that_whose_network_it_joins(process: int) -> None:
    path = f"/proc/{process}/ns/net"
    assert sharer(path, []) == ""
    assert sharer(path, [record("web", process)]) == "web"
    assert sharer(path, [record("member", process, sandbox="web")]) == "web"


def test_the_network_of_the_host_is_refused_also_by_its_path() -> None:
    with pytest.raises(Refused, match="cannot have the host's network"):
        sharer("/proc/self/ns/net", [])


def test_a_network_that_does_not_exist_is_named() -> None:
    with pytest.raises(RuntimeFault, match="network namespace /no/where cannot be opened: No such file or directory"):
        sharer("/no/where", [])
