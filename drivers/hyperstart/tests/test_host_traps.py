"""What an original hyperstart does wrong, and how the host keeps it from doing so. One test for each trap."""

import asyncio
import json
from typing import Any

import pytest
from hyperstart_agents import TIMEOUT, make_agent, run

from vc_agent_hyperstart.agent import HyperstartAgent
from vc_agent_hyperstart.codec import Code
from vc_agent_hyperstart.streams import StreamChannel
from vc_agent_hyperstart.testing.fake_guest import FakeHyperstart
from vc_agent_hyperstart.testing.misbehaviour import Misbehaviour
from vc_agent_hyperstart.testing.programs import pattern
from vc_core.driver import (
    Cmd,
    Confinement,
    EnvVar,
    GuestContainer,
    GuestInterface,
    GuestMount,
    GuestNetwork,
    GuestRoute,
    TerminalSize,
)
from vc_core.errors import AgentTimeoutError, ConfigError
from vc_core.testing.process_io import RecordedIO

ORIGINALS = [4242, 4243, 4244]

NETWORK = GuestNetwork(
    (GuestInterface("eth0", ("10.0.2.15/24",)),), (GuestRoute("default", "10.0.2.2", "eth0"),), ("10.0.2.3",)
)


async def started(guest: FakeHyperstart) -> HyperstartAgent:
    agent = make_agent()
    await agent.connect(guest.open_channel, TIMEOUT)
    await agent.start_pod("p1", "", TIMEOUT)
    await agent.start_container(GuestContainer("c1", "c1/rootfs", Cmd(args=["sleep"])), RecordedIO(None), TIMEOUT)
    return agent


def sent(guest: FakeHyperstart, code: int) -> list[Any]:
    return [json.loads(payload) for number, payload in guest.commands if number == code]


@pytest.mark.parametrize("api", ORIGINALS)
def test_input_goes_in_frames_of_at_most_512_bytes_with_one_ping_between(api: int) -> None:
    """The original keeps 512 bytes of a process' input and drops the rest without a word."""

    async def main() -> None:
        async with FakeHyperstart(ours=False, api=api) as guest:
            agent = await started(guest)
            before = len(guest.commands)
            io = RecordedIO(pattern(5000))
            process = await agent.exec("c1", Cmd(args=["cat"]), io, TIMEOUT)
            assert await agent.wait(process) == 0
            assert io.stdout == pattern(5000)
            sizes = [length - 12 for sequence, length in guest.frames if sequence == int(process.process_id)]
            assert sizes == [512] * 9 + [5000 - 9 * 512, 0]
            assert [code for code, _ in guest.commands[before:]] == [Code.EXECCMD] + [Code.PING] * 10
            await agent.aclose()

    run(main())


@pytest.mark.parametrize("api", ORIGINALS)
def test_no_frame_of_input_is_longer_than_4096_bytes(api: int) -> None:
    """A longer one ends the original's pid 1, and the VM with it."""

    async def main() -> None:
        async with FakeHyperstart(ours=False, api=api) as guest:
            agent = await started(guest)
            for terminal in (None, TerminalSize()):
                data = pattern(20_000).replace(b"\x04", b"\x05")
                io = RecordedIO(data)
                process = await agent.exec("c1", Cmd(args=["cat"]), io, TIMEOUT, terminal=terminal)
                assert await agent.wait(process) == 0
                assert io.stdout == data
            await agent.aclose()
            assert max(length for _, length in guest.frames) <= 4096
            assert not guest.powered_off

    run(main())


def test_stream_numbers_are_below_2_to_the_53() -> None:
    """The original reads WINSIZE's number as a double: above that it never matches."""

    async def main() -> None:
        streams = StreamChannel(lambda error: None)
        numbers = [number for _ in range(2000) for number in streams.new_numbers(terminal=False)]
        assert all(0 < number < 2**53 for number in numbers)
        assert max(numbers) > 2**50, "and yet they are drawn from all of them"

    run(main())


@pytest.mark.parametrize("api", ORIGINALS)
def test_stderr_has_a_stream_of_its_own_where_there_is_no_terminal(api: int) -> None:
    """The original refuses a process without a terminal whose stderr is 0."""

    async def main() -> None:
        async with FakeHyperstart(ours=False, api=api) as guest:
            agent = await started(guest)
            await agent.exec("c1", Cmd(args=["true"]), RecordedIO(), TIMEOUT)
            await agent.exec("c1", Cmd(args=["true"]), RecordedIO(), TIMEOUT, terminal=TerminalSize(2, 3))
            plain, terminal = [command["process"] for command in sent(guest, Code.EXECCMD)]
            assert plain["stderr"] not in (0, plain["stdio"])
            assert terminal["stderr"] == 0
            await agent.aclose()

    run(main())


@pytest.mark.parametrize("api", ORIGINALS)
def test_no_request_has_a_key_that_the_guest_does_not_support(api: int) -> None:
    """The original answers ERROR to unknown keys, and skips what follows one in a process. The fake guest does too."""

    async def main() -> None:
        async with FakeHyperstart(ours=False, api=api) as guest:
            agent = make_agent()
            await agent.connect(guest.open_channel, TIMEOUT)
            await agent.start_pod("p1", "", TIMEOUT, NETWORK)
            cmd = Cmd(args=["sleep"], envs=[EnvVar("A", "b")], work_dir="/", user="u", group="g")
            mounts = (GuestMount("c1/mounts/0", "/etc/data"),)
            container = GuestContainer("c1", "c1/rootfs", cmd, TerminalSize(3, 4), mounts, confinement=Confinement())
            process = await agent.start_container(container, RecordedIO(None), TIMEOUT)
            await agent.exec("c1", cmd, RecordedIO(), TIMEOUT, terminal=TerminalSize(3, 4))
            await agent.resize(process, 24, 80, TIMEOUT)
            await agent.signal(process, 15, TIMEOUT)
            await agent.signal_container("c1", 15, TIMEOUT)
            await agent.wait(process)
            await agent.remove_container("c1", TIMEOUT)
            await agent.stop_pod(TIMEOUT)
            await agent.aclose()
            assert guest.violations == []

    run(main())


@pytest.mark.parametrize("api", ORIGINALS)
def test_empty_lists_are_left_out(api: int) -> None:
    """The original takes null for a list as an error, and ``"ports":[]`` breaks the container."""

    async def main() -> None:
        async with FakeHyperstart(ours=False, api=api) as guest:
            agent = await started(guest)
            (container,) = sent(guest, Code.NEWCONTAINER)
            assert [key for key, value in container.items() if value in ([], None, {})] == []
            assert set(container) == {"id", "image", "rootfs", "process", "initialize"}
            await agent.aclose()

    run(main())


def test_a_pod_always_has_a_host_name() -> None:
    """Without one the original never answers STARTPOD."""

    async def main() -> None:
        async with FakeHyperstart(ours=False) as guest:
            agent = make_agent()
            await agent.connect(guest.open_channel, TIMEOUT)
            with pytest.raises(ConfigError, match="has no host name"):
                await agent.start_pod("", "", TIMEOUT)
            await agent.start_pod("p1", "", TIMEOUT)
            assert [pod["hostname"] for pod in sent(guest, Code.STARTPOD)] == ["p1"]
            await agent.aclose()

    run(main())


@pytest.mark.parametrize("api", ORIGINALS)
def test_signals_are_numbers(api: int) -> None:
    """The original reads a signal that is a string as 0: ACK, and nothing happens."""

    async def main() -> None:
        async with FakeHyperstart(ours=False, api=api) as guest:
            agent = await started(guest)
            await agent.signal_container("c1", 15, TIMEOUT)
            assert sent(guest, Code.KILLCONTAINER) == [{"container": "c1", "signal": 15}]
            await agent.aclose()

    run(main())


@pytest.mark.parametrize("api", ORIGINALS)
def test_no_input_goes_out_before_the_process_is_acknowledged(api: int) -> None:
    """The original answers input of an unknown stream by an empty frame, which the host would take for the end."""

    async def main() -> None:
        async with FakeHyperstart(ours=False, api=api, misbehaviour=Misbehaviour.LATE, at=Code.EXECCMD) as guest:
            agent = await started(guest)
            io = RecordedIO(b"hello")
            starting = asyncio.create_task(agent.exec("c1", Cmd(args=["cat"]), io, TIMEOUT))
            while not sent(guest, Code.EXECCMD):  # noqa: ASYNC110 - the guest has no event for a command
                await asyncio.sleep(0)
            for _ in range(100):
                await asyncio.sleep(0)
            assert guest.frames == []
            guest.catch_up()
            assert await agent.wait(await starting) == 0
            assert io.stdout == b"hello"
            await agent.aclose()

    run(main())


def test_destroypod_that_is_never_answered_ends_at_its_timeout() -> None:
    """The original waits for ever for a process that handles SIGTERM and stays."""

    async def main() -> None:
        async with FakeHyperstart(ours=False, misbehaviour=Misbehaviour.SILENT, at=Code.DESTROYPOD) as guest:
            agent = await started(guest)
            with pytest.raises(AgentTimeoutError, match=r"did not end the pod within 0\.1 s"):
                await agent.stop_pod(0.1)
            await agent.aclose()

    run(main())


@pytest.mark.parametrize("options", [{"ours": False}, {}], ids=["original", "ours"])
def test_containers_are_not_initialized(options: dict[str, Any]) -> None:
    """``initialize`` makes the original write into the root file system, which is a read-only share."""

    async def main() -> None:
        async with FakeHyperstart(**options) as guest:
            agent = await started(guest)
            assert [container["initialize"] for container in sent(guest, Code.NEWCONTAINER)] == [False]
            await agent.aclose()

    run(main())


@pytest.mark.parametrize("taken_over", [False, True], ids=["same-host", "next-host"])
def test_a_pod_that_ended_with_its_last_container_is_started_again_as_it_was(taken_over: bool) -> None:
    """The original forgets the pod (PODFINISHED), its network and its share, but the VM stays."""

    async def main() -> None:
        async with FakeHyperstart(ours=False) as guest:
            agent = make_agent()
            await agent.connect(guest.open_channel, TIMEOUT)
            await agent.start_pod("p1", "", TIMEOUT, NETWORK)
            first = GuestContainer("c1", "c1/rootfs", Cmd(args=["sleep"]))
            process = await agent.start_container(first, RecordedIO(None), TIMEOUT)
            if taken_over:
                saved = json.loads(json.dumps(agent.save()))
                await agent.aclose()
                agent = make_agent(saved)
                await agent.connect(guest.open_channel, TIMEOUT)
                await agent.adopt(process, RecordedIO(None))
            await agent.signal_container("c1", 9, TIMEOUT)
            await agent.wait(process)
            second = GuestContainer("c2", "c2/rootfs", Cmd(args=["exit", "6"]))
            assert await agent.wait(await agent.start_container(second, RecordedIO(), TIMEOUT)) == 6
            one, two = sent(guest, Code.STARTPOD)
            assert one == two
            assert one["interfaces"]
            assert one["routes"]
            await agent.aclose()
            assert guest.violations == []

    run(main())


def test_commands_go_in_pieces_of_512_bytes_that_the_guest_has_acknowledged() -> None:
    """The original reads little at once, and a host that writes on and on blocks on a full port: NEXT paces it."""

    async def main() -> None:
        async with FakeHyperstart(ours=False, misbehaviour=Misbehaviour.NO_NEXT, at=Code.EXECCMD) as guest:
            agent = await started(guest)
            pieces = []
            count, guest.control._on_bytes = guest.control._on_bytes, lambda size: pieces.append(size)
            with pytest.raises(AgentTimeoutError):
                await agent.exec("c1", Cmd(args=["echo", "x" * 5000]), RecordedIO(), 0.1)
            assert sum(pieces) == 512
            guest.control._on_bytes = count
            await agent.aclose()

    run(main())


@pytest.mark.parametrize("api", ORIGINALS)
def test_a_warning_says_that_an_original_may_drop_input(api: int) -> None:
    """The original drops what a slow reader has not taken, and no host can know."""

    async def main() -> None:
        async with FakeHyperstart(ours=False, api=api) as guest:
            agent = await started(guest)
            [warning] = agent.warnings
            assert str(api) in warning
            assert "drops input" in warning
            await agent.aclose()
        async with FakeHyperstart() as guest:
            agent = await started(guest)
            assert agent.warnings == ()
            await agent.aclose()

    run(main())
