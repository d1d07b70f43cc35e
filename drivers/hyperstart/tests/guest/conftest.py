"""Fixtures: VMs with the real guest agent, and hosts that are connected to them."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from guest_vm import DRIVER, VM, Qmp, RawHost, booted, build_image, load_build_hook, with_pod

from needs import require
from vc_agent_hyperstart.codec import Code, StreamControlType
from vc_core.driver import GuestImage


@pytest.fixture(scope="session")
def guest_image() -> GuestImage:
    return build_image(platform.machine())


@pytest.fixture
def fresh(tmp_path_factory: pytest.TempPathFactory, guest_image: GuestImage) -> Iterator[VM]:
    """A VM for one test."""
    with booted(tmp_path_factory.mktemp("vm"), guest_image) as vm:
        yield vm


@pytest.fixture
def exchanged(tmp_path_factory: pytest.TempPathFactory, guest_image: GuestImage) -> Iterator[VM]:
    """A VM whose ports have each other's names, and whose kernel command line names them; a third is for receipts."""
    control, stream = "/dev/vport0p2,/dev/vport0p3", "/dev/vport0p1"
    options = (f"vc.channel.sh.hyper.channel.0={control}", f"vc.channel.sh.hyper.channel.1={stream}")
    with booted(tmp_path_factory.mktemp("vm"), guest_image, options, ("stream", "control", "receipts")) as vm:
        yield vm


@pytest.fixture
def aarch64(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VM]:
    """A VM of another machine, with the guest agent compiled for it."""
    require("qemu-system-aarch64", "aarch64-linux-gnu-gcc")
    agent = load_build_hook().build_guest_agent(DRIVER, "aarch64")
    image = build_image("aarch64", files={"/init": str(agent)})
    with booted(tmp_path_factory.mktemp("vm"), image, machine="aarch64") as vm:
        yield vm


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, guest_image: GuestImage) -> Iterator[VM]:
    """A VM whose hosts do not send HELLO."""
    with booted(tmp_path_factory.mktemp("vm"), guest_image) as vm:
        yield vm


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory, guest_image: GuestImage) -> Iterator[VM]:
    """A VM whose host sent HELLO, with a pod and a container c1 that sleeps."""
    with with_pod(tmp_path_factory.mktemp("vm"), guest_image) as vm:
        yield vm


@pytest.fixture
def old(original: VM) -> Iterator[RawHost]:
    """A host that uses only the original protocol."""
    with closing(RawHost(original)) as host:
        yield host


@pytest.fixture
def host(extended: VM) -> Iterator[RawHost]:
    """A host that takes over the guest from the test before."""
    with closing(RawHost(extended)) as host:
        host.take_over()
        for process in host.hello()["processes"]:
            if process["container"] != "c1" or not process["init"]:
                host.call(Code.SIGNAL, {"stdio": process["stdio"], "signal": 9})
            host.send_control(StreamControlType.RESUME, process["stdio"], process["stdout_from"])
        yield host


@pytest.fixture
def new_host() -> Iterator[Callable[[VM], RawHost]]:
    """Connect as another host, after the one before closed its sockets."""
    hosts: list[RawHost] = []

    def connect(vm: VM) -> RawHost:
        hosts.append(RawHost(vm))
        return hosts[-1]

    yield connect
    for each in hosts:
        each.close()


@pytest.fixture
def qmp() -> Iterator[Callable[[VM], Qmp]]:
    """Connect to the QEMU of a VM; what comes back is called with a command and its arguments."""
    connections: list[Qmp] = []

    def connect(vm: VM) -> Qmp:
        connections.append(Qmp(vm))
        return connections[-1]

    yield connect
    for each in connections:
        each.close()
