"""A guest that misbehaves: the agent raises a typed error in time, and uses little memory."""

import asyncio
import tracemalloc
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest
from hyperstart_agents import TIMEOUT as EXCHANGE
from hyperstart_agents import WHOLE, make_agent

from vc_agent_hyperstart.agent import HyperstartAgent
from vc_agent_hyperstart.codec import STREAM, Code, FrameDecoder
from vc_agent_hyperstart.guest_process import GuestProcess
from vc_agent_hyperstart.replies import ProcessNames
from vc_agent_hyperstart.streams import StreamChannel
from vc_agent_hyperstart.testing.fake_guest import FEATURES, FakeHyperstart
from vc_agent_hyperstart.testing.misbehaviour import Misbehaviour
from vc_agent_hyperstart.testing.wire import WINDOW
from vc_core.driver import Cmd, GuestContainer
from vc_core.errors import TEXT_MAX, AgentConnectError, AgentError, AgentProtocolError, AgentTimeoutError, CommandError
from vc_core.testing.process_io import RecordedIO
from vc_core.testing.slowness import within

#: Seconds; a guest that does not answer gets this much, and a test may take ten times that.
TIMEOUT = 0.3

#: Eight is the length of an empty control frame, and too short for a stream frame.
LENGTHS = [0, 4, 7, 8, 2**31, 2**32 - 1]


def run(main: Coroutine[Any, Any, None]) -> None:
    with within(10 * TIMEOUT):
        asyncio.run(asyncio.wait_for(main, WHOLE))


async def started(agent: HyperstartAgent, guest: FakeHyperstart) -> None:
    await agent.connect(guest.open_channel, EXCHANGE)
    await agent.start_pod("p1", "", EXCHANGE)
    await agent.start_container(GuestContainer("c1", "c1", Cmd(args=["sleep"])), RecordedIO(None), EXCHANGE)


BAD_LENGTHS = [
    pytest.param(misbehaviour, length, AgentProtocolError, f"length {length};", id=f"{misbehaviour}-{length}")
    for misbehaviour in (Misbehaviour.BAD_CONTROL_LENGTH, Misbehaviour.BAD_STREAM_LENGTH)
    for length in LENGTHS
    if (misbehaviour, length) != (Misbehaviour.BAD_CONTROL_LENGTH, 8)
]


@pytest.mark.promise("T10")
@pytest.mark.parametrize(
    ("misbehaviour", "length", "error", "text"),
    [
        pytest.param(Misbehaviour.NEVER_READY, 0, AgentTimeoutError, "within 0.3 s", id="never-ready"),
        pytest.param(Misbehaviour.SILENT, 0, AgentTimeoutError, "within 0.3 s", id="silent"),
        pytest.param(Misbehaviour.EOF_AFTER_READY, 0, AgentConnectError, "closed", id="eof-after-ready"),
        pytest.param(Misbehaviour.EOF, 0, AgentConnectError, "closed", id="eof"),
        pytest.param(Misbehaviour.EOF_MID_FRAME, 0, AgentConnectError, "closed", id="eof-mid-frame"),
        pytest.param(Misbehaviour.EOF_MID_STREAM_FRAME, 0, AgentConnectError, "closed", id="eof-mid-stream-frame"),
        pytest.param(Misbehaviour.ERROR, 0, AgentConnectError, "cannot answer GETVERSION", id="error"),
        pytest.param(Misbehaviour.BAD_NEXT, 0, AgentProtocolError, "NEXT", id="bad-next"),
        pytest.param(Misbehaviour.NO_NEXT, 0, AgentProtocolError, r"acknowledged 8 of \d+ bytes", id="no-next"),
        pytest.param(Misbehaviour.LONG_NEXT, 0, AgentProtocolError, "NEXT", id="long-next"),
        pytest.param(Misbehaviour.LONG_REPLY, 0, AgentProtocolError, "bytes instead of 4", id="long-reply"),
        pytest.param(Misbehaviour.CONTROL_FLOOD, 0, AgentTimeoutError, "within 0.3 s", id="control-flood"),
        pytest.param(Misbehaviour.STREAM_FLOOD, 0, AgentTimeoutError, "within 0.3 s", id="stream-flood"),
        pytest.param(Misbehaviour.WRONG_CODE, 0, AgentProtocolError, "code 12", id="wrong-code"),
        pytest.param(Misbehaviour.DOUBLE_REPLY, 0, AgentProtocolError, "no command was", id="double-reply"),
        *BAD_LENGTHS,
    ],
)
def test_connect_fails_with_a_typed_error_in_time_and_leaves_nothing(
    misbehaviour: Misbehaviour, length: int, error: type[Exception], text: str
) -> None:
    timeout = TIMEOUT if error is AgentTimeoutError else EXCHANGE

    async def main() -> None:
        async with FakeHyperstart(misbehaviour=misbehaviour, length=length) as guest:
            agent = make_agent()
            with pytest.raises(error, match=text):
                await agent.connect(guest.open_channel, timeout)
            with pytest.raises(AgentError):
                await agent.start_pod("p1", "", TIMEOUT)

    run(main())


@pytest.mark.promise("T10")
@pytest.mark.parametrize(
    ("misbehaviour", "length", "error", "text"),
    [
        pytest.param(Misbehaviour.EOF, 0, AgentConnectError, "closed", id="eof"),
        pytest.param(Misbehaviour.EOF_MID_FRAME, 0, AgentConnectError, "closed", id="eof-mid-frame"),
        pytest.param(Misbehaviour.EOF_MID_STREAM_FRAME, 0, AgentConnectError, "closed", id="eof-mid-stream-frame"),
        pytest.param(Misbehaviour.LONG_NEXT, 0, AgentProtocolError, "NEXT", id="next-after-hello"),
        pytest.param(Misbehaviour.WRONG_CODE, 0, AgentProtocolError, "code 12", id="wrong-code"),
        *BAD_LENGTHS,
    ],
)
def test_whatever_kills_a_channel_fails_every_call_and_resolves_wait_lost(
    misbehaviour: Misbehaviour, length: int, error: type[Exception], text: str
) -> None:
    async def main() -> None:
        async with FakeHyperstart(misbehaviour=misbehaviour, at=Code.EXECCMD, length=length) as guest:
            agent = make_agent()
            await started(agent, guest)
            calls = [
                agent.exec("c1", Cmd(args=["true"]), RecordedIO(), EXCHANGE),
                agent.exec("c1", Cmd(args=["true"]), RecordedIO(), EXCHANGE),
                agent.signal_container("c1", 15, EXCHANGE),
            ]
            results = await asyncio.gather(*calls, return_exceptions=True)
            for result in results:
                assert type(result) is error
                assert text in str(result)
            assert await agent.wait_lost() == str(results[0])
            await agent.aclose()

    run(main())


def test_a_wait_for_a_process_fails_when_the_guest_is_lost() -> None:
    async def main() -> None:
        async with FakeHyperstart() as guest:
            agent = make_agent()
            await agent.connect(guest.open_channel, EXCHANGE)
            await agent.start_pod("p1", "", EXCHANGE)
            container = GuestContainer("c1", "c1", Cmd(args=["sleep"]))
            process = await agent.start_container(container, RecordedIO(None), EXCHANGE)
            waiting = asyncio.create_task(agent.wait(process))
            await asyncio.sleep(0)
            guest.power_off()
            with pytest.raises(AgentConnectError, match="closed"):
                await waiting
            with pytest.raises(AgentConnectError, match="closed"):
                await agent.wait(process)
            await agent.aclose()

    run(main())


@pytest.mark.slow
def test_a_command_that_is_not_answered_times_out_and_so_does_the_next() -> None:
    async def main() -> None:
        async with FakeHyperstart(misbehaviour=Misbehaviour.SILENT, at=Code.EXECCMD) as guest:
            agent = make_agent()
            await started(agent, guest)
            with pytest.raises(AgentTimeoutError, match=r"did not start the command within 0\.3 s"):
                await agent.exec("c1", Cmd(args=["true"]), RecordedIO(), TIMEOUT)
            with pytest.raises(AgentTimeoutError, match=r"did not send the signal within 0\.3 s"):
                await agent.signal_container("c1", 15, TIMEOUT)
            await agent.aclose()

    run(main())


@pytest.mark.parametrize("how", ["timeout", "cancellation"])
def test_a_command_that_starts_after_its_caller_left_is_killed(how: Misbehaviour) -> None:
    async def main() -> None:
        async with FakeHyperstart(misbehaviour=Misbehaviour.LATE, at=Code.EXECCMD) as guest:
            agent = make_agent()
            await started(agent, guest)
            if how == "timeout":
                with pytest.raises(AgentTimeoutError):
                    await agent.exec("c1", Cmd(args=["sleep"]), RecordedIO(), 0.05)
            else:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(agent.exec("c1", Cmd(args=["sleep"]), RecordedIO(), EXCHANGE), 0.05)
            guest.catch_up()
            left = [process for process in guest.processes.values() if not process.init]
            await asyncio.gather(*(process.task for process in left))
            assert [process.status for process in left] == [128 + 9]
            # And the channel is in step: the next command gets its own answer.
            process = await agent.exec("c1", Cmd(args=["exit", "7"]), RecordedIO(), EXCHANGE)
            assert await agent.wait(process) == 7
            await agent.aclose()

    run(main())


def test_an_error_without_a_reason_names_the_command() -> None:
    async def main() -> None:
        async with FakeHyperstart(ours=False, misbehaviour=Misbehaviour.ERROR, at=Code.EXECCMD) as guest:
            agent = make_agent()
            await started(agent, guest)
            with pytest.raises(
                AgentError, match=r"cannot run 'true' in container 'c1': the guest cannot start the command"
            ):
                await agent.exec("c1", Cmd(args=["true"]), RecordedIO(), EXCHANGE)
            await agent.aclose()

    run(main())


def test_a_reason_is_shown_short_and_without_control_characters() -> None:
    async def main() -> None:
        async with FakeHyperstart(misbehaviour=Misbehaviour.HOSTILE_REASON, at=Code.EXECCMD) as guest:
            agent = make_agent()
            await started(agent, guest)
            with pytest.raises(CommandError) as caught:
                await agent.exec("c1", Cmd(args=["true"]), RecordedIO(), EXCHANGE)
            text = str(caught.value)
            assert caught.value.exit_code == 127
            assert text.isprintable()
            assert len(text) < TEXT_MAX + 100
            await agent.aclose()

    run(main())


def test_two_answers_to_one_command_fail_the_channel() -> None:
    async def main() -> None:
        async with FakeHyperstart(misbehaviour=Misbehaviour.DOUBLE_REPLY, at=Code.EXECCMD) as guest:
            agent = make_agent()
            await started(agent, guest)
            with pytest.raises(AgentProtocolError, match="no command was waiting"):
                await agent.wait(await agent.exec("c1", Cmd(args=["sleep"]), RecordedIO(), EXCHANGE))
            await agent.aclose()

    run(main())


BOMBS = [Misbehaviour.JSON_DEPTH, Misbehaviour.JSON_WIDTH, Misbehaviour.JSON_DIGITS, Misbehaviour.LONG_REPLY]


@pytest.mark.parametrize("bomb", BOMBS)
def test_json_that_is_made_to_hurt_is_a_protocol_error_at_once_and_costs_little_memory(bomb: Misbehaviour) -> None:
    async def main() -> None:
        async with FakeHyperstart(misbehaviour=bomb, at=Code.HELLO) as guest:
            tracemalloc.start()
            try:
                with pytest.raises(AgentProtocolError, match="reply to HELLO"):
                    await make_agent().connect(guest.open_channel, EXCHANGE)
                assert tracemalloc.get_traced_memory()[1] < 16 * 1024 * 1024
            finally:
                tracemalloc.stop()

    run(main())


@pytest.mark.parametrize(
    ("features", "text"),
    [([], "lacks credit, "), (set(FEATURES) - {"sync"}, "lacks sync$")],
    ids=["no-feature", "without-sync"],
)
def test_an_answer_to_hello_without_what_all_of_ours_can_do_is_a_protocol_error(
    features: Sequence[str], text: str
) -> None:
    async def main() -> None:
        async with FakeHyperstart(features=features) as guest:
            with pytest.raises(AgentProtocolError, match=text):
                await make_agent().connect(guest.open_channel, EXCHANGE)

    run(main())


@pytest.mark.promise("T10")
@pytest.mark.parametrize("options", [{}, {"ours": False}, {"ours": False, "api": 4243}], ids=["ours", "2016", "4243"])
def test_the_end_of_a_channel_is_never_the_success_of_a_process(options: dict[str, Any]) -> None:
    async def main() -> None:
        how = Misbehaviour.EOF_BEFORE_STATUS
        async with FakeHyperstart(**options, misbehaviour=how, at=Code.EXECCMD) as guest:
            agent = make_agent()
            await started(agent, guest)
            io = RecordedIO()
            process = await agent.exec("c1", Cmd(args=["echo", "all of it"]), io, EXCHANGE)
            with pytest.raises(AgentConnectError, match="closed"):
                await agent.wait(process)
            await agent.aclose()

    run(main())


def test_a_guest_that_reads_nothing_holds_up_input_and_costs_little_memory() -> None:
    async def main() -> None:
        async with FakeHyperstart(misbehaviour=Misbehaviour.NEVER_READS, at=Code.EXECCMD) as guest:
            agent = make_agent()
            await started(agent, guest)
            processes, piece = 100, 65536
            tracemalloc.start()
            try:
                for _ in range(processes):
                    await agent.exec("c1", Cmd(args=["count"]), RecordedIO(bytes(piece), piece=piece), EXCHANGE)
                for _ in range(1000):
                    await asyncio.sleep(0)
                # The piece that each caller gave, and of all together what the channel holds.
                assert tracemalloc.get_traced_memory()[1] < 2 * processes * piece + 2 * 1024 * 1024
            finally:
                tracemalloc.stop()
            await agent.aclose()

    run(main())


@pytest.mark.slow
def test_a_guest_that_sends_and_never_reads_is_disconnected_before_the_answers_fill_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A MiB of credit answers 4 GB of output, which takes a minute on a busy host.
    monkeypatch.setattr("vc_agent_hyperstart.streams._UNSENT_MAX", 64 * 1024)

    async def main() -> None:
        async with FakeHyperstart(misbehaviour=Misbehaviour.NEVER_READS, at=Code.EXECCMD) as guest:
            agent = make_agent()
            await started(agent, guest)
            process = await agent.exec("c1", Cmd(args=["sleep"]), RecordedIO(None), EXCHANGE)
            guest.in_background(flood(guest, int(process.process_id)))
            with pytest.raises(AgentProtocolError, match="does not read"):
                await agent.wait(process)
            await agent.aclose()

    asyncio.run(asyncio.wait_for(main(), 60))


async def flood(guest: FakeHyperstart, sequence: int) -> None:
    """Output of which none is beyond the window, as the host consumes it all."""
    while True:
        await guest.stream.drained()
        guest.stream.send(sequence, bytes(16384))
        await asyncio.sleep(0)


@pytest.mark.promise("T10")
def test_a_second_ready_does_no_harm() -> None:
    async def main() -> None:
        async with FakeHyperstart(misbehaviour=Misbehaviour.READY_AGAIN) as guest:
            agent = make_agent()
            await started(agent, guest)
            process = await agent.exec("c1", Cmd(args=["exit", "3"]), RecordedIO(), EXCHANGE)
            assert await agent.wait(process) == 3
            await agent.aclose()

    run(main())


def test_frames_of_unknown_streams_are_dropped() -> None:
    async def main() -> None:
        async with FakeHyperstart(misbehaviour=Misbehaviour.UNKNOWN_SEQUENCES, at=Code.EXECCMD) as guest:
            agent = make_agent()
            await started(agent, guest)
            io = RecordedIO()
            process = await agent.exec("c1", Cmd(args=["echo", "still here"]), io, EXCHANGE)
            assert await agent.wait(process) == 0
            assert io.stdout == b"still here\n"
            await agent.aclose()

    run(main())


def test_output_beyond_the_window_fails_the_channel_before_memory_grows() -> None:
    async def main() -> None:
        async with FakeHyperstart(misbehaviour=Misbehaviour.OUTPUT_FLOOD, at=Code.EXECCMD) as guest:
            agent = make_agent()
            await started(agent, guest)
            tracemalloc.start()
            try:
                process = await agent.exec("c1", Cmd(args=["sleep"]), RecordedIO(stalled=True), EXCHANGE)
                with pytest.raises(AgentProtocolError, match=f"without credit; {WINDOW} at most"):
                    await agent.wait(process)
                assert tracemalloc.get_traced_memory()[1] < 2 * WINDOW + 1024 * 1024
            finally:
                tracemalloc.stop()
            await agent.aclose()

    run(main())


def test_single_bytes_of_output_that_is_not_read_cost_no_more_memory_than_their_number() -> None:
    count = WINDOW // 16
    frame = STREAM.encode(7, b"x")

    class Mux(StreamChannel):
        credit = True

        def __init__(self) -> None: ...

    names = ProcessNames("c1", True, 7, 0, False)
    process = GuestProcess(Mux(), names, status_by_event=False, stdout_from=0, stderr_from=0)
    decoder = FrameDecoder(STREAM, lambda _, payload: process.on_stdio(payload))
    frames = frame * 1024
    tracemalloc.start()
    try:
        for _ in range(count // 1024):
            decoder.feed(frames)
        assert process.stdout.position == count
        assert tracemalloc.get_traced_memory()[0] < 2 * count
    finally:
        tracemalloc.stop()


def test_the_output_flood_of_an_original_waits_in_the_guest_and_commands_are_answered() -> None:
    async def main() -> None:
        async with FakeHyperstart(ours=False, misbehaviour=Misbehaviour.OUTPUT_FLOOD, at=Code.EXECCMD) as guest:
            agent = make_agent()
            await started(agent, guest)
            tracemalloc.start()
            try:
                io = RecordedIO(stalled=True)
                await agent.exec("c1", Cmd(args=["sleep"]), io, EXCHANGE)
                await guest.stream.stalled()
                await agent.signal_container("c1", 0, EXCHANGE)
                assert tracemalloc.get_traced_memory()[1] < 4 * 1024 * 1024
            finally:
                tracemalloc.stop()
            io.flowing.set()
            assert len(await io.until(4 * 1024 * 1024)) >= 4 * 1024 * 1024
            await agent.aclose()

    run(main())


def test_credit_for_input_that_was_not_sent_fails_the_channel() -> None:
    async def main() -> None:
        async with FakeHyperstart(misbehaviour=Misbehaviour.BAD_CREDIT, at=Code.EXECCMD) as guest:
            agent = make_agent()
            await started(agent, guest)
            process = await agent.exec("c1", Cmd(args=["count"]), RecordedIO(bytes(200_000)), EXCHANGE)
            with pytest.raises(AgentProtocolError, match=r"only .* were sent"):
                await agent.wait(process)
            await agent.aclose()

    run(main())


def test_output_after_the_end_of_output_fails_the_channel() -> None:
    async def main() -> None:
        async with FakeHyperstart(misbehaviour=Misbehaviour.DATA_AFTER_END, at=Code.EXECCMD) as guest:
            agent = make_agent()
            await started(agent, guest)
            process = await agent.exec("c1", Cmd(args=["true"]), RecordedIO(), EXCHANGE)
            with pytest.raises(AgentProtocolError, match="after that stream's end"):
                await agent.wait(process)
            await agent.aclose()

    run(main())


@pytest.mark.parametrize(
    "event",
    [
        b"",
        b"[]",
        b'{"container": "c1", "process": "%s", "event": "finished", "status": 0}' % (b"9" * 5000),
        b'{"container": "c1", "process": "x", "event": "finished", "status": 0}',
        b'{"container": "c1", "process": "1", "event": "finished", "status": 256}',
    ],
)
def test_a_process_event_that_cannot_be_fails_the_channel(event: bytes) -> None:
    async def main() -> None:
        async with FakeHyperstart(ours=False, api=4243) as guest:
            agent = make_agent()
            await started(agent, guest)
            guest.control.send(Code.PROCESSASYNCEVENT, event)
            assert "process event that is not valid" in await agent.wait_lost()
            await agent.aclose()

    run(main())


def test_the_end_of_an_unknown_process_is_ignored() -> None:
    async def main() -> None:
        async with FakeHyperstart(ours=False, api=4243) as guest:
            agent = make_agent()
            await started(agent, guest)
            event = b'{"container": "c1", "process": "17", "event": "finished", "status": 0}'
            guest.control.send(Code.PROCESSASYNCEVENT, event)
            process = await agent.exec("c1", Cmd(args=["exit", "9"]), RecordedIO(), EXCHANGE)
            assert await agent.wait(process) == 9
            await agent.aclose()

    run(main())
