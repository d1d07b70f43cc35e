"""The agent against a guest that keeps to the protocol, ours and originals."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hyperstart_agents import make_agent

from vc_agent_hyperstart.agent import HyperstartAgent
from vc_agent_hyperstart.codec import Code
from vc_agent_hyperstart.testing.fake_guest import FakeHyperstart
from vc_agent_hyperstart.testing.misbehaviour import Misbehaviour
from vc_agent_hyperstart.testing.programs import pattern
from vc_agent_hyperstart.testing.wire import WINDOW
from vc_core.driver import (
    AgentCapability,
    Channel,
    Cmd,
    EnvVar,
    GuestContainer,
    GuestMount,
    GuestProcessId,
    SharedDirectory,
    TerminalSize,
)
from vc_core.errors import AgentConnectError, AgentError, CommandError, ConfigError, NotSupportedError
from vc_core.testing.process_io import RecordedIO

TIMEOUT = 10

GUESTS: dict[str, dict[str, Any]] = {
    "ours": {},
    "2016": {"ours": False},
    "4243": {"ours": False, "api": 4243},
    "4244": {"ours": False, "api": 4244},
}


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 30))


@contextlib.asynccontextmanager
async def pod(**guest_options: Any) -> AsyncIterator[tuple[FakeHyperstart, HyperstartAgent]]:
    """A guest with a started pod, whose container c1 sleeps, and the agent connected to it."""
    async with FakeHyperstart(**guest_options) as guest:
        agent = make_agent()
        await agent.connect(guest.open_channel, TIMEOUT)
        try:
            await agent.start_pod("p1", "", TIMEOUT)
            container = GuestContainer("c1", "c1/rootfs", Cmd(args=["sleep"]))
            await agent.start_container(container, RecordedIO(None), TIMEOUT)
            yield guest, agent
        finally:
            await agent.aclose()
        assert guest.violations == []


async def command(
    agent: HyperstartAgent, *args: str, stdin: bytes = b"", terminal: TerminalSize | None = None
) -> tuple[int, RecordedIO]:
    io = RecordedIO(stdin)
    process = await agent.exec("c1", Cmd(args=args), io, TIMEOUT, terminal=terminal)
    return await agent.wait(process), io


@pytest.fixture(params=GUESTS)
def guest_options(request: pytest.FixtureRequest) -> dict[str, Any]:
    return GUESTS[request.param]


def test_exec_gives_output_on_the_right_stream_and_the_exit_code(guest_options: dict[str, Any]) -> None:
    async def main() -> None:
        async with pod(**guest_options) as (_, agent):
            status, io = await command(agent, "echo", "hello", "world")
            assert (status, bytes(io.stdout), bytes(io.stderr)) == (0, b"hello world\n", b"")
            status, io = await command(agent, "warn", "oh")
            assert (status, bytes(io.stdout), bytes(io.stderr)) == (0, b"", b"oh\n")
            status, _ = await command(agent, "exit", "42")
            assert status == 42

    run(main())


@pytest.mark.parametrize("size", [0, 1, WINDOW - 1, WINDOW, WINDOW + 1, 2_000_000])
def test_output_of_any_size_is_exact_when_wait_returns(guest_options: dict[str, Any], size: int) -> None:
    async def main() -> None:
        async with pod(**guest_options) as (_, agent):
            status, io = await command(agent, "pattern", str(size))
            assert status == 0
            assert io.stdout == pattern(size)

    run(main())


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 65535, 65536, 65537])
def test_input_of_any_size_arrives_and_ends(guest_options: dict[str, Any], size: int) -> None:
    async def main() -> None:
        async with pod(**guest_options) as (_, agent):
            status, io = await command(agent, "cat", stdin=pattern(size))
            assert status == 0
            assert io.stdout == pattern(size)

    run(main())


def test_both_ends_of_many_commands_at_once_keep_apart() -> None:
    async def one(agent: HyperstartAgent, number: int) -> None:
        data = pattern(50_000 + number)[number:]
        status, io = await command(agent, "cat", stdin=data)
        assert (status, bytes(io.stdout)) == (0, data)

    async def main() -> None:
        async with pod() as (_, agent):
            await asyncio.gather(*(one(agent, number) for number in range(50)))

    run(main())


def test_a_stalled_reader_stalls_only_its_own_stream_and_loses_nothing() -> None:
    async def main() -> None:
        async with pod() as (guest, agent):
            io = RecordedIO(stalled=True)
            stalled = await agent.exec("c1", Cmd(args=["pattern", "1000000"]), io, TIMEOUT)
            status, other = await command(agent, "pattern", "300000")
            assert (status, bytes(other.stdout)) == (0, pattern(300_000))
            # The window is what the guest has sent of the stalled stream, and all that is kept here.
            assert guest.processes[int(stalled.process_id)].stdout.sent <= WINDOW
            io.flowing.set()
            assert await agent.wait(stalled) == 0
            assert io.stdout == pattern(1_000_000)

    run(main())


def test_a_program_that_does_not_read_gets_no_more_input_than_the_window() -> None:
    async def main() -> None:
        async with pod() as (guest, agent):
            process = await agent.exec("c1", Cmd(args=["sleep"]), RecordedIO(bytes(10_000_000)), TIMEOUT)
            deaf = guest.processes[int(process.process_id)]
            while deaf.received < WINDOW:
                await command(agent, "true")  # other streams go on meanwhile
            status, _ = await command(agent, "true")
            assert status == 0
            assert deaf.received == WINDOW

    run(main())


def test_wait_may_be_called_by_many_and_after_the_end() -> None:
    async def main() -> None:
        async with pod() as (_, agent):
            process = await agent.exec("c1", Cmd(args=["exit", "5"]), RecordedIO(), TIMEOUT)
            assert set(await asyncio.gather(agent.wait(process), agent.wait(process))) == {5}
            assert await agent.wait(process) == 5

    run(main())


def test_wait_for_a_process_that_never_was_is_an_error() -> None:
    async def main() -> None:
        async with pod() as (_, agent):
            for name in ("123", "nonsense"):
                with pytest.raises(AgentError, match="no process"):
                    await agent.wait(GuestProcessId("c1", name))

    run(main())


def test_a_command_that_cannot_start_is_a_command_error_with_the_exit_code_and_the_guests_reason() -> None:
    async def main() -> None:
        async with pod() as (_, agent):
            with pytest.raises(
                CommandError, match=r"cannot run 'nope' in container 'c1': nope cannot be run"
            ) as caught:
                await agent.exec("c1", Cmd(args=["nope"]), RecordedIO(), TIMEOUT)
            assert caught.value.exit_code == 127

    run(main())


def test_a_command_that_cannot_start_in_an_original_ends_with_its_exit_code() -> None:
    async def main() -> None:
        async with pod(ours=False) as (_, agent):
            status, io = await command(agent, "nope")
            assert status == 127
            assert b"No such file" in io.stderr

    run(main())


def test_a_command_without_a_program_is_refused_before_the_guest_hears_of_it() -> None:
    async def main() -> None:
        async with pod() as (guest, agent):
            before = len(guest.commands)
            with pytest.raises(ConfigError, match="no args"):
                await agent.exec("c1", Cmd(), RecordedIO(), TIMEOUT)
            assert len(guest.commands) == before

    run(main())


def test_the_request_for_a_process_holds_the_command_and_nothing_empty() -> None:
    async def main() -> None:
        async with pod(ours=False) as (guest, agent):
            cmd = Cmd(
                args=["true", "ü\n"],
                envs=[EnvVar("A", "b=c")],
                work_dir="/w",
                user="u",
                group="g",
                additional_groups=["x", "7"],
            )
            await agent.wait(await agent.exec("c1", cmd, RecordedIO(), TIMEOUT))
            await command(agent, "true")
            full, bare = [json.loads(payload)["process"] for code, payload in guest.commands if code == Code.EXECCMD]
            assert full.pop("stdio") != full.pop("stderr")
            assert full == {
                "terminal": False,
                "args": ["true", "ü\n"],
                "envs": [{"env": "A", "value": "b=c"}],
                "workdir": "/w",
                "user": "u",
                "group": "g",
                "additionalGroups": ["x", "7"],
            }
            assert set(bare) == {"terminal", "stdio", "stderr", "args", "workdir"}

    run(main())


def test_input_that_is_at_its_end_from_the_start_costs_no_frame_if_the_guest_supports_it(
    guest_options: dict[str, Any],
) -> None:
    async def main() -> None:
        async with pod(**guest_options) as (guest, agent):
            io = RecordedIO()
            io.has_input = False
            process = await agent.exec("c1", Cmd(args=["count"]), io, TIMEOUT)
            assert await agent.wait(process) == 0
            assert io.stdout == b"0"
            told = json.loads(guest.commands[-1][1])["process"].get("noInput", False)
            assert told is guest_options.get("ours", True)

    run(main())


def test_the_overlay_is_asked_for_only_where_the_guest_has_it(guest_options: dict[str, Any]) -> None:
    async def main() -> None:
        async with pod(**guest_options) as (guest, _):
            (payload,) = [payload for code, payload in guest.commands if code == Code.NEWCONTAINER]
            container = json.loads(payload)
            assert (container["id"], container["image"], container["rootfs"]) == ("c1", "c1", "rootfs")
            assert container.get("overlay", False) is guest_options.get("ours", True)

    run(main())


@pytest.mark.parametrize("root_fs", ["", "/c1", "c1/../../etc", ".."])
def test_a_root_file_system_outside_the_share_is_refused(root_fs: str) -> None:
    async def main() -> None:
        async with pod() as (_, agent):
            container = GuestContainer("c2", root_fs, Cmd(args=["true"]))
            with pytest.raises(ConfigError, match="not below the share"):
                await agent.start_container(container, RecordedIO(), TIMEOUT)

    run(main())


def test_death_by_signal_is_128_plus_its_number() -> None:
    async def main() -> None:
        async with pod() as (_, agent):
            process = await agent.exec("c1", Cmd(args=["sleep"]), RecordedIO(None), TIMEOUT)
            await agent.signal(process, 15, TIMEOUT)
            assert await agent.wait(process) == 128 + 15

    run(main())


@pytest.mark.parametrize("api", [4243, 4244])
def test_late_originals_signal_any_process(api: int) -> None:
    async def main() -> None:
        async with pod(ours=False, api=api) as (guest, agent):
            assert AgentCapability.SIGNAL in agent.capabilities
            process = await agent.exec("c1", Cmd(args=["sleep"]), RecordedIO(None), TIMEOUT)
            await agent.signal(process, 15, TIMEOUT)
            await agent.wait(process)
            assert Code.SIGNALPROCESS in [code for code, _ in guest.commands]

    run(main())


def test_an_original_of_2016_signals_only_a_containers_first_process() -> None:
    async def main() -> None:
        async with pod(ours=False) as (_, agent):
            assert AgentCapability.SIGNAL not in agent.capabilities
            container = GuestContainer("c2", "c2", Cmd(args=["sleep"]))
            first = await agent.start_container(container, RecordedIO(None), TIMEOUT)
            process = await agent.exec("c2", Cmd(args=["sleep"]), RecordedIO(None), TIMEOUT)
            with pytest.raises(NotSupportedError, match="2016"):
                await agent.signal(process, 15, TIMEOUT)
            await agent.signal(first, 15, TIMEOUT)
            await agent.wait(first)

    run(main())


def test_signals_and_sizes_for_what_has_just_ended_are_no_errors(guest_options: dict[str, Any]) -> None:
    async def main() -> None:
        async with pod(**guest_options) as (_, agent):
            container = GuestContainer("c2", "c2", Cmd(args=["true"]), terminal=TerminalSize())
            process = await agent.start_container(container, RecordedIO(None), TIMEOUT)
            await agent.wait(process)
            await agent.signal(process, 15, TIMEOUT)
            await agent.signal_container("c2", 15, TIMEOUT)
            await agent.resize(process, 24, 80, TIMEOUT)

    run(main())


def test_a_signal_to_a_container_that_never_was_is_an_error(guest_options: dict[str, Any]) -> None:
    async def main() -> None:
        async with pod(**guest_options) as (_, agent):
            with pytest.raises(AgentError, match="KILLCONTAINER"):
                await agent.signal_container("c9", 15, TIMEOUT)

    run(main())


def test_a_terminal_has_one_output_gets_its_size_and_ends_with_control_d(guest_options: dict[str, Any]) -> None:
    async def main() -> None:
        async with pod(**guest_options) as (guest, agent):
            io = RecordedIO(b"hello\n")
            process = await agent.exec("c1", Cmd(args=["cat"]), io, TIMEOUT, terminal=TerminalSize(33, 99))
            inside = guest.processes[int(process.process_id)]
            assert inside.terminal
            assert inside.stderr is inside.stdout
            assert inside.size == (33, 99)
            await agent.resize(process, 24, 80, TIMEOUT)
            assert inside.size == (24, 80)
            assert await agent.wait(process) == 0
            assert io.stdout == b"hello\n"

    run(main())


def test_a_container_can_start_again_after_it_was_removed(guest_options: dict[str, Any]) -> None:
    async def main() -> None:
        async with pod(**guest_options) as (_, agent):
            for status in (3, 4):
                container = GuestContainer("c2", "c2", Cmd(args=["exit", str(status)]))
                process = await agent.start_container(container, RecordedIO(), TIMEOUT)
                assert await agent.wait(process) == status
                await agent.remove_container("c2", TIMEOUT)

    run(main())


def test_a_container_that_runs_cannot_be_removed() -> None:
    async def main() -> None:
        async with pod() as (_, agent):
            with pytest.raises(AgentError, match="runs"):
                await agent.remove_container("c1", TIMEOUT)

    run(main())


def test_a_container_starts_after_the_last_one_of_an_original_pod_has_ended() -> None:
    async def main() -> None:
        async with pod(ours=False) as (guest, agent):
            await agent.signal_container("c1", 9, TIMEOUT)
            for status in (6, 7):
                container = GuestContainer("c2", "c2", Cmd(args=["exit", str(status)]))
                process = await agent.start_container(container, RecordedIO(), TIMEOUT)
                assert await agent.wait(process) == status
            assert [code for code, _ in guest.commands].count(Code.STARTPOD) == 3

    run(main())


def test_a_guest_that_powers_off_instead_of_an_answer_has_stopped() -> None:
    async def main() -> None:
        for misbehaviour in (None, Misbehaviour.EOF):
            async with FakeHyperstart(misbehaviour=misbehaviour, at=Code.DESTROYPOD) as guest:
                agent = make_agent()
                await agent.connect(guest.open_channel, TIMEOUT)
                await agent.start_pod("p1", "", TIMEOUT)
                await agent.stop_pod(TIMEOUT)
                assert guest.powered_off
                await agent.aclose()

    run(main())


def test_a_guest_that_was_lost_before_cannot_be_stopped() -> None:
    async def main() -> None:
        async with FakeHyperstart() as guest:
            agent = make_agent()
            await agent.connect(guest.open_channel, TIMEOUT)
            guest.power_off()
            await agent.wait_lost()
            with pytest.raises(AgentConnectError):
                await agent.stop_pod(TIMEOUT)
            await agent.aclose()

    run(main())


def test_calls_that_wait_when_the_agent_is_closed_fail() -> None:
    async def main() -> None:
        async with FakeHyperstart() as guest:
            agent = make_agent()
            await agent.connect(guest.open_channel, TIMEOUT)
            await agent.start_pod("p1", "", TIMEOUT)
            container = GuestContainer("c1", "c1", Cmd(args=["sleep"]))
            process = await agent.start_container(container, RecordedIO(None), TIMEOUT)
            waiting = asyncio.gather(agent.wait(process), agent.wait_lost(), return_exceptions=True)
            await asyncio.sleep(0)
            await agent.aclose()
            result, reason = await waiting
            assert type(result) is AgentConnectError
            assert "closed by this host" in str(reason)
            with pytest.raises(AgentConnectError):
                await agent.exec("c1", Cmd(args=["true"]), RecordedIO(), TIMEOUT)

    run(main())


def test_calls_of_an_agent_that_is_not_connected_raise_that() -> None:
    async def main() -> None:
        agent = make_agent()
        with pytest.raises(AgentConnectError, match="not connected"):
            await agent.start_pod("p1", "", TIMEOUT)
        await agent.aclose()

    run(main())


def test_a_guest_of_an_unknown_version_is_refused() -> None:
    async def main() -> None:
        async with FakeHyperstart(ours=False, api=4999) as guest:
            with pytest.raises(AgentConnectError, match="4999; use one of 4242 to 4244"):
                await make_agent().connect(guest.open_channel, TIMEOUT)

    run(main())


def test_the_agent_asks_for_two_channels_and_the_share_twice() -> None:
    control, stream, share, live = make_agent().devices()
    assert control == Channel("charch0", "sh.hyper.channel.0")
    assert stream == Channel("charch1", "sh.hyper.channel.1")
    assert share == SharedDirectory("hyperShared", Path("/nonexistent/share"), read_only=True)
    assert live == SharedDirectory("hyperLive", Path("/nonexistent/share"), read_only=True)


def test_a_pod_with_writable_mounts_has_a_writable_share_for_them() -> None:
    assert make_agent(writable_dir=Path("/nonexistent/writable")).devices()[-1] == SharedDirectory(
        "hyperWritable", Path("/nonexistent/writable"), read_only=False
    )


MOUNTS = (GuestMount("c2/mounts/0", "/etc/data"), GuestMount("c2/mounts/1", "/var/data", read_only=False))


def test_mounts_are_maps_of_the_share_and_of_the_writable_directory() -> None:
    async def main() -> None:
        async with FakeHyperstart() as guest:
            agent = make_agent(writable_dir=Path("/nonexistent/writable"))
            await agent.connect(guest.open_channel, TIMEOUT)
            await agent.start_pod("p1", "pod/rootfs", TIMEOUT)
            container = GuestContainer("c2", "c2/rootfs", Cmd(args=["sleep"]), mounts=MOUNTS)
            await agent.start_container(container, RecordedIO(None), TIMEOUT)
            assert AgentCapability.MOUNTS in agent.capabilities
            sent = {code: json.loads(payload) for code, payload in guest.commands if payload}
            assert sent[Code.STARTPOD] == {
                **{"hostname": "p1", "containers": [], "shareDir": "hyperShared", "root": "pod/rootfs"},
                **{"liveDir": "hyperLive", "writableDir": "hyperWritable"},
            }
            assert sent[Code.NEWCONTAINER]["fsmap"] == [
                {"source": "c2/mounts/0", "path": "/etc/data", "readOnly": True},
                {"source": "c2/mounts/1", "path": "/var/data", "readOnly": False, "writable": True},
            ]
            await agent.aclose()
            assert guest.violations == []

    run(main())


def test_a_writable_mount_needs_a_pod_with_a_writable_directory() -> None:
    async def main() -> None:
        async with pod() as (guest, agent):
            container = GuestContainer("c2", "c2/rootfs", Cmd(args=["sleep"]), mounts=MOUNTS)
            with pytest.raises(ConfigError, match="mount '/var/data' of container 'c2' is writable, but its pod"):
                await agent.start_container(container, RecordedIO(None), TIMEOUT)
            assert len(guest.processes) == 1

    run(main())


def test_an_original_has_read_only_mounts_only() -> None:
    async def main() -> None:
        async with pod(ours=False) as (guest, agent):
            container = GuestContainer("c2", "c2/rootfs", Cmd(args=["sleep"]), mounts=MOUNTS[:1])
            await agent.start_container(container, RecordedIO(None), TIMEOUT)
            assert json.loads(guest.commands[-1][1])["fsmap"] == [
                {"source": "c2/mounts/0", "path": "/etc/data", "readOnly": True}
            ]
            container = GuestContainer("c3", "c3/rootfs", Cmd(args=["sleep"]), mounts=MOUNTS[1:])
            with pytest.raises(NotSupportedError, match="can only be read-only"):
                await agent.start_container(container, RecordedIO(None), TIMEOUT)

    run(main())


@pytest.mark.parametrize("name", ["ours", "4243", "4244"])
def test_a_command_can_run_in_the_pod_itself(name: str) -> None:
    async def main() -> None:
        async with pod(**GUESTS[name]) as (guest, agent):
            assert AgentCapability.POD in agent.capabilities
            process = await agent.exec("", Cmd(args=["sleep"]), RecordedIO(None), TIMEOUT)
            assert process.container_id == ""
            await agent.signal(process, 15, TIMEOUT)
            await agent.wait(process)
            (inside,) = {json.loads(payload)["container"] for code, payload in guest.commands if code == Code.EXECCMD}
            assert inside == ("" if name == "ours" else "hyperstart")

    run(main())


def test_an_original_of_2016_runs_commands_only_in_containers() -> None:
    async def main() -> None:
        async with pod(ours=False) as (_, agent):
            assert AgentCapability.POD not in agent.capabilities
            with pytest.raises(NotSupportedError, match="only in containers"):
                await agent.exec("", Cmd(args=["true"]), RecordedIO(), TIMEOUT)

    run(main())


@pytest.mark.parametrize("name", ["2016", "4243", "4244"])
def test_an_original_gives_a_pod_no_root_file_system(name: str) -> None:
    async def main() -> None:
        async with FakeHyperstart(**GUESTS[name]) as guest:
            agent = make_agent()
            await agent.connect(guest.open_channel, TIMEOUT)
            with pytest.raises(NotSupportedError, match="root_fs of pod 'p1' needs the feature pod-root"):
                await agent.start_pod("p1", "pod/rootfs", TIMEOUT)
            await agent.aclose()
            assert guest.violations == []

    run(main())


@pytest.mark.parametrize("path", ["/etc", "..", "c2/../../etc"])
def test_a_mount_from_outside_the_share_is_refused(path: str) -> None:
    async def main() -> None:
        async with pod() as (_, agent):
            container = GuestContainer("c2", "c2", Cmd(args=["true"]), mounts=(GuestMount(path, "/x"),))
            with pytest.raises(ConfigError, match="not below the share"):
                await agent.start_container(container, RecordedIO(), TIMEOUT)

    run(main())
