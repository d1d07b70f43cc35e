"""One host dies, in the middle of anything, and the next one goes on."""

import asyncio
import json
import socket
from collections.abc import Mapping
from typing import Any

import pytest
from hyperstart_agents import TIMEOUT, make_agent, run

from vc_agent_hyperstart.agent import HyperstartAgent
from vc_agent_hyperstart.testing.fake_guest import FakeHyperstart
from vc_agent_hyperstart.testing.programs import pattern
from vc_agent_hyperstart.testing.wire import CONTROL, STREAM, WINDOW
from vc_core.driver import AgentCapability, Cmd, GuestContainer, GuestProcessId, TerminalSize
from vc_core.errors import AgentError, AgentProtocolError, AgentTimeoutError, ConfigError
from vc_core.testing.process_io import RecordedIO


class Host:
    """One host process: an agent, and its sockets to break."""

    def __init__(self, agent: HyperstartAgent, guest: FakeHyperstart) -> None:
        self.agent = agent
        self._guest = guest
        self._sockets: dict[str, socket.socket] = {}

    async def connect(self, timeout: float = TIMEOUT) -> HyperstartAgent:
        await self.agent.connect(self._open, timeout)
        return self.agent

    async def _open(self, name: str) -> socket.socket:
        sock = await self._guest.open_channel(name)
        self._sockets[name] = sock.dup()
        return sock

    async def die(self, halves: Mapping[str, bytes] | None = None) -> dict[str, Any]:
        """End as SIGKILL does: nothing more is sent, but for half frames that were on their way."""
        saved: dict[str, Any] = json.loads(json.dumps(self.agent.save()))
        for name, half in (halves or {}).items():
            self._sockets[name].send(half)
        for sock in self._sockets.values():
            sock.shutdown(socket.SHUT_RDWR)
        await self.agent.wait_lost()
        await self.agent.aclose()
        for sock in self._sockets.values():
            sock.close()
        return saved


async def first_host(
    guest: FakeHyperstart, *args: str, io: RecordedIO, terminal: TerminalSize | None = None
) -> tuple[Host, GuestProcessId]:
    host = Host(make_agent(), guest)
    agent = await host.connect()
    await agent.start_pod("p1", "", TIMEOUT)
    container = GuestContainer("c1", "c1/rootfs", Cmd(args=args), terminal=terminal)
    return host, await agent.start_container(container, io, TIMEOUT)


async def next_host(guest: FakeHyperstart, saved: Mapping[str, object], timeout: float = TIMEOUT) -> HyperstartAgent:
    agent = make_agent(saved)
    await agent.connect(guest.open_channel, timeout)
    return agent


HALVES = {
    "between frames": {},
    "in a control frame": {CONTROL: b"\0\0\0\x06\0\0\1"},
    "in a stream frame": {STREAM: b"\0\0\0\0\0\0\0\1\0\0\1\0half"},
    "in both": {CONTROL: b"\0\0\0\x06\0\0\1\0{", STREAM: b"\0\0\0"},
}


@pytest.mark.parametrize("halves", HALVES.values(), ids=HALVES)
def test_output_goes_on_where_the_former_host_acknowledged_it_and_the_exit_code_arrives(
    halves: Mapping[str, bytes],
) -> None:
    async def main() -> None:
        async with FakeHyperstart() as guest:
            before = RecordedIO()
            host, process = await first_host(guest, "pattern", "1000000", io=before)
            await before.until(300_000)
            before.flowing.clear()
            saved = await host.die(halves)
            taken = guest.processes[int(process.process_id)].stdout.base
            assert 0 <= len(before.stdout) - taken < WINDOW

            agent = await next_host(guest, saved)
            assert AgentCapability.REATTACH in agent.capabilities
            after = RecordedIO()
            await agent.adopt(process, after)
            assert await agent.wait(process) == 0
            assert bytes(before.stdout[:taken] + after.stdout) == pattern(1_000_000)
            await agent.aclose()
            assert guest.violations == []

    run(main())


def test_a_host_that_leaves_in_order_leaves_no_byte_to_be_sent_twice() -> None:
    async def main() -> None:
        async with FakeHyperstart() as guest:
            first = make_agent()
            await first.connect(guest.open_channel, TIMEOUT)
            await first.start_pod("p1", "", TIMEOUT)
            before = RecordedIO()
            container = GuestContainer("c1", "c1/rootfs", Cmd(args=["pattern", "1000000"]))
            process = await first.start_container(container, before, TIMEOUT)
            await before.until(300_000)
            before.flowing.clear()
            saved = first.save()
            await first.aclose()
            agent = await next_host(guest, saved)
            after = RecordedIO()
            await agent.adopt(process, after)
            assert await agent.wait(process) == 0
            assert bytes(before.stdout + after.stdout) == pattern(1_000_000)
            await agent.aclose()

    run(main())


def test_input_goes_on_with_what_the_guest_has_not_received() -> None:
    async def main() -> None:
        async with FakeHyperstart() as guest:
            host, process = await first_host(guest, "count", io=RecordedIO(None))
            inside = guest.processes[int(process.process_id)]
            saved = await host.die()
            agent = await next_host(guest, saved)
            after = RecordedIO(bytes(200_000))
            await agent.adopt(process, after)
            assert await agent.wait(process) == 0
            assert bytes(after.stdout) == b"200000"
            assert inside.closed
            await agent.aclose()
            assert guest.violations == []

    run(main())


def test_input_that_had_ended_is_not_sent_again() -> None:
    async def main() -> None:
        async with FakeHyperstart() as guest:
            host, process = await first_host(guest, "sleep", io=RecordedIO(b"all there is"))
            saved = await host.die()
            agent = await next_host(guest, saved)
            await agent.adopt(process, RecordedIO(b"more"))
            await agent.signal(process, 9, TIMEOUT)
            assert await agent.wait(process) == 128 + 9
            await agent.aclose()
            assert guest.violations == []

    run(main())


def test_the_exit_code_and_error_output_of_a_process_that_ended_meanwhile_arrive() -> None:
    async def main() -> None:
        async with FakeHyperstart() as guest:
            host, process = await first_host(guest, "warn", "last words", io=RecordedIO(stalled=True))
            inside = guest.processes[int(process.process_id)]
            saved = await host.die()
            await inside.task
            agent = await next_host(guest, saved)
            io = RecordedIO()
            await agent.adopt(process, io)
            assert await agent.wait(process) == 0
            assert io.stderr == b"last words\n"
            await agent.aclose()
            await guest.stream.closed()
            assert guest.processes == {}

    run(main())


def test_commands_of_the_former_host_are_killed_and_forgotten() -> None:
    async def main() -> None:
        async with FakeHyperstart() as guest:
            host, first = await first_host(guest, "sleep", io=RecordedIO(None))
            agent = host.agent
            running = await agent.exec("c1", Cmd(args=["sleep"]), RecordedIO(None), TIMEOUT)
            await agent.exec("c1", Cmd(args=["pattern", "1000000"]), RecordedIO(stalled=True), TIMEOUT)
            orphans = [process for process in guest.processes.values() if not process.init]
            saved = await host.die()

            agent = await next_host(guest, saved)
            await asyncio.gather(*(process.task for process in orphans))
            assert [process.status for process in orphans] == [128 + 9, 128 + 9]
            await agent.adopt(first, RecordedIO(None))
            with pytest.raises(AgentError, match="no process"):
                await agent.adopt(running, RecordedIO())
            while len(guest.processes) > 1:  # noqa: ASYNC110 - the guest has no event for a release
                await asyncio.sleep(0)
            await agent.aclose()
            await guest.stream.closed()
            assert list(guest.processes) == [int(first.process_id)]
            assert guest.violations == []

    run(main())


def test_a_process_is_adopted_once_and_under_its_own_container() -> None:
    async def main() -> None:
        async with FakeHyperstart() as guest:
            host, process = await first_host(guest, "sleep", io=RecordedIO(None))
            agent = await next_host(guest, await host.die())
            for stranger in (type(process)("c2", process.process_id), type(process)("c1", "17")):
                with pytest.raises(AgentError, match="no process"):
                    await agent.adopt(stranger, RecordedIO())
            await agent.adopt(process, RecordedIO(None))
            with pytest.raises(AgentError, match="no process"):
                await agent.adopt(process, RecordedIO(None))
            await agent.aclose()

    run(main())


def test_three_hosts_in_a_row_take_over_from_each_other() -> None:
    async def main() -> None:
        async with FakeHyperstart() as guest:
            host, process = await first_host(guest, "cat", io=RecordedIO(None))
            for _ in range(3):
                saved = await host.die()
                host = Host(make_agent(saved), guest)
                agent = await host.connect()
                await agent.adopt(process, RecordedIO(None))
                done = await agent.exec("c1", Cmd(args=["exit", "4"]), RecordedIO(), TIMEOUT)
                assert await agent.wait(done) == 4
            await host.die()
            assert guest.violations == []

    run(main())


def test_a_host_that_dies_while_taking_over_does_not_disturb_the_next() -> None:
    async def main() -> None:
        async with FakeHyperstart() as guest:
            host, process = await first_host(guest, "sleep", io=RecordedIO(None))
            saved = await host.die()
            # The marker of the host that died is answered to the one that comes after it.
            assert guest.control.marker is not None
            marker = guest.control.marker + b"12345678"
            for name in (CONTROL, STREAM):
                sock = await guest.open_channel(name)
                sock.close()
            for port in (guest.control, guest.stream):
                await port.closed()
                port.send_raw(marker)
            agent = await next_host(guest, saved)
            await agent.adopt(process, RecordedIO(None))
            await agent.signal_container("c1", 15, TIMEOUT)
            assert await agent.wait(process) == 128 + 15
            await agent.aclose()

    run(main())


def test_a_host_with_another_token_is_refused() -> None:
    async def main() -> None:
        async with FakeHyperstart() as guest:
            host, _ = await first_host(guest, "sleep", io=RecordedIO(None))
            saved = await host.die()
            with pytest.raises(AgentTimeoutError):
                await next_host(guest, saved | {"token": "ab" * 16}, timeout=0.1)

    run(main())


@pytest.mark.parametrize("api", [4242, 4244])
def test_an_original_is_taken_over_as_well_as_it_can_be(api: int) -> None:
    async def main() -> None:
        async with FakeHyperstart(ours=False, api=api) as guest:
            host, process = await first_host(guest, "cat", io=RecordedIO(None))
            saved = await host.die()
            # An answer that the former host did not wait for.
            guest.control.send_raw(b"\0\0\0\x09\0\0\0\x08")
            agent = await next_host(guest, saved)
            assert AgentCapability.REATTACH not in agent.capabilities
            io = RecordedIO(b"still there")
            await agent.adopt(process, io)
            assert await agent.wait(process) == 0
            assert bytes(io.stdout) == b"still there"
            await agent.aclose()
            assert guest.violations == []

    run(main())


def test_an_original_left_in_the_middle_of_a_frame_is_a_protocol_error() -> None:
    async def main() -> None:
        async with FakeHyperstart(ours=False) as guest:
            host, _ = await first_host(guest, "sleep", io=RecordedIO(None))
            saved = await host.die()
            guest.control.send_raw(b"\0\0\0\x09\0\0")
            with pytest.raises(AgentProtocolError, match="length"):
                await next_host(guest, saved)

    run(main())


@pytest.mark.parametrize(
    "saved", [{}, {"token": "x"}, {"token": "0" * 32, "dialect": 4242}, {"token": "0" * 32, "processes": [{}]}]
)
def test_a_saved_state_that_cannot_be_read_is_refused(saved: Mapping[str, object]) -> None:
    with pytest.raises(ConfigError, match="saved state of the agent of pod 'p1'"):
        make_agent(saved)


def test_what_was_saved_before_the_guest_answered_makes_an_agent_that_greets_it() -> None:
    async def main() -> None:
        async with FakeHyperstart() as guest:
            agent = make_agent(make_agent().save())
            await agent.connect(guest.open_channel, TIMEOUT)
            assert AgentCapability.REATTACH in agent.capabilities
            await agent.aclose()

    run(main())
