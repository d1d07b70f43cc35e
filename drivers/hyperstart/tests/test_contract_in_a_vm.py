"""The contract of agents with the real guest agent in a VM. One boot; each test takes the guest over from the last."""

from __future__ import annotations

import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from agent_vm import agent_vm

from vc_core.driver import (
    Agent,
    GuestContainer,
    GuestProcessId,
    HypervisorConfig,
    PodContext,
    ProcessIO,
    Resources,
)
from vc_core.errors import VCError
from vc_core.testing import AgentContract
from vc_core.testing.contract.agent import HOSTNAME, RunningGuest, StartGuest
from vc_core.testing.contract.agent.base import Wire
from vc_core.testing.contract.running import TIMEOUT
from vc_core.testing.rootfs import make_root_fs
from vc_core.testing.slowness import scaled

pytestmark = pytest.mark.vm

#: Seconds; a boot under emulation on a busy machine.
BOOT = scaled(300)

SHARES = {
    "hyperShared": "share,security_model=none,readonly=on",
    "hyperLive": "share,security_model=none,readonly=on",
    "hyperWritable": "writable,security_model=mapped-xattr",
    "hyperRoots": "roots,security_model=passthrough",
}


@dataclass
class Guest:
    """A running VM, and what the last agent saved; None before the first."""

    directory: Path
    saved: Mapping[str, object] | None = None

    async def open_channel(self, name: str) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        sock.connect(str(self.directory / name))
        return sock


@pytest.fixture(scope="module")
def vm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    directory = tmp_path_factory.mktemp("vm")
    make_root_fs(directory / "share/c1/rootfs")
    (directory / "writable").mkdir()
    (directory / "roots").mkdir()
    with agent_vm(directory, SHARES):
        yield Guest(directory)


#: What ends or cuts the guest off belongs to a guest of its own: the fake one has these tests.
NOT_HERE = (
    "test_a_lost_guest",
    "test_the_end_of_the_pod",
    "test_another_agent_takes_over",
    "test_a_peer",
    "test_conn",
    "test_a_guest_that_settled",
)


class TestInAVM(AgentContract):
    driver_name = "hyperstart"

    @pytest.fixture(autouse=True)
    def tests_of_this_guest(self, request: pytest.FixtureRequest) -> None:
        if request.node.name.startswith(NOT_HERE):
            pytest.skip("the guest goes on to the next test; this one is run with a fake guest")

    @pytest.fixture
    def pod(self, vm: Guest) -> PodContext:
        return PodContext(
            id="contract",
            uuid="00000000-0000-0000-0000-000000000000",
            run_dir=vm.directory,
            share_dir=vm.directory / "share",
            resources=Resources(),
            hypervisor_config=HypervisorConfig(),
            writable_dir=vm.directory / "writable",
            roots_dir=vm.directory / "roots",
        )

    @pytest.fixture
    def guest(self, vm: Guest) -> StartGuest:
        @asynccontextmanager
        async def start() -> AsyncIterator[RunningGuest]:
            yield vm

        return start

    @asynccontextmanager
    async def _connected(self, make: Callable[..., Agent], guest: StartGuest) -> AsyncIterator[tuple[Agent, Wire]]:
        async with guest() as vm:
            assert isinstance(vm, Guest)
            agent, wire = make(vm.saved), Wire(vm)
            start, started = agent.start_container, set[GuestProcessId]()

            async def start_container(container: GuestContainer, io: ProcessIO, timeout: float) -> GuestProcessId:
                process = await start(container, io, timeout)
                started.add(process)
                return process

            try:
                await agent.connect(wire.open_channel, BOOT)
                if vm.saved is None:
                    await agent.start_pod(HOSTNAME, "", TIMEOUT)
                vm.saved = agent.save()
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(agent, "start_container", start_container)
                    yield agent, wire
            finally:
                for process in started:
                    with suppress(VCError):  # the test may have removed it
                        await agent.signal_container(process.container_id, signal.SIGKILL, TIMEOUT)
                        await agent.wait(process)
                        await agent.remove_container(process.container_id, TIMEOUT)
                vm.saved = agent.save()
                await agent.aclose()
                wire.close()
