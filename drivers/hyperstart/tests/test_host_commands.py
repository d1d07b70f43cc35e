"""Commands of the agent, against a guest that keeps to the protocol, ours and originals."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hyperstart_agents import GUESTS, TIMEOUT, command, each_guest, make_agent, pod, run

from vc_agent_hyperstart.agent import HyperstartAgent
from vc_agent_hyperstart.codec import Code
from vc_agent_hyperstart.testing.fake_guest import FAKE_NOW, FEATURES, FakeHyperstart
from vc_agent_hyperstart.testing.programs import pattern
from vc_agent_hyperstart.testing.wire import WINDOW
from vc_core import trace
from vc_core.driver import (
    AgentCapability,
    Cmd,
    EnvVar,
    GuestContainer,
    GuestProcessId,
    TerminalSize,
)
from vc_core.errors import AgentError, CommandError, ConfigError, NotSupportedError
from vc_core.testing.process_io import RecordedIO


@each_guest
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


@each_guest
@pytest.mark.parametrize("size", [0, 1, WINDOW - 1, WINDOW, WINDOW + 1, 2_000_000])
def test_output_of_any_size_is_exact_when_wait_returns(guest_options: dict[str, Any], size: int) -> None:
    async def main() -> None:
        async with pod(**guest_options) as (_, agent):
            status, io = await command(agent, "pattern", str(size))
            assert status == 0
            assert io.stdout == pattern(size)

    run(main())


@each_guest
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


@each_guest
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


@each_guest
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


@each_guest
def test_a_signal_to_a_container_that_never_was_is_an_error(guest_options: dict[str, Any]) -> None:
    async def main() -> None:
        async with pod(**guest_options) as (_, agent):
            with pytest.raises(AgentError, match="the guest cannot send the signal"):
                await agent.signal_container("c9", 15, TIMEOUT)

    run(main())


@each_guest
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


@pytest.fixture
def traced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The trace that this process writes."""
    monkeypatch.setenv(trace.VARIABLE, "")  # so that it is removed again
    trace.create(tmp_path / "trace")
    yield tmp_path / "trace"
    trace.stop()


def test_a_trace_has_what_the_guest_did_in_times_of_the_host(traced: Path) -> None:
    async def main() -> None:
        async with FakeHyperstart() as guest:
            guest.phases = [{"name": "kernel", "begin": FAKE_NOW - 3_000_000, "end": FAKE_NOW - 1_000_000}]
            agent, before = make_agent(), time.monotonic_ns()
            await agent.connect(guest.open_channel, TIMEOUT)
            after = time.monotonic_ns()
            await agent.aclose()
        lines = traced.read_text(encoding="utf-8").splitlines()[1:]
        (event,) = (one for one in (json.loads(line.rstrip(",")) for line in lines) if one["name"] == "kernel")
        assert event["dur"] == 2000
        assert before - 3_000_000 <= event["ts"] * 1000 <= after

    run(main())


async def commands_of_connect(features: tuple[str, ...]) -> list[int]:
    async with FakeHyperstart(features=features) as guest:
        agent = make_agent()
        await agent.connect(guest.open_channel, TIMEOUT)
        await agent.aclose()
        return [code for code, _ in guest.commands]


def test_a_host_without_a_trace_does_not_ask_the_guest_what_it_did() -> None:
    assert Code.TIMES not in asyncio.run(commands_of_connect(FEATURES))


def test_a_guest_that_cannot_say_what_it_did_is_not_asked(traced: Path) -> None:
    older = tuple(name for name in FEATURES if name != "times")
    assert Code.TIMES not in asyncio.run(commands_of_connect(older))
