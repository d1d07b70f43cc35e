"""The agent, its channels and its end, against a guest that keeps to the protocol."""

import asyncio
import signal
from pathlib import Path

import pytest
from hyperstart_agents import TIMEOUT, make_agent, run

from vc_agent_hyperstart import streams
from vc_agent_hyperstart.codec import Code
from vc_agent_hyperstart.testing.fake_guest import FakeHyperstart
from vc_agent_hyperstart.testing.misbehaviour import Misbehaviour
from vc_core.driver import (
    Channel,
    Cmd,
    GuestContainer,
    SharedDirectory,
)
from vc_core.errors import AgentConnectError
from vc_core.testing.process_io import RecordedIO


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


def test_a_guest_that_is_stopped_gets_the_release_of_a_process_that_has_ended_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "_COALESCE", 1000 * TIMEOUT)  # no timer sends it

    async def main() -> None:
        async with FakeHyperstart(misbehaviour=Misbehaviour.SILENT, at=Code.DESTROYPOD) as guest:
            agent = make_agent()
            await agent.connect(guest.open_channel, TIMEOUT)
            await agent.start_pod("p1", "", TIMEOUT)
            container = GuestContainer("c1", "c1", Cmd(args=["sleep"]))
            first = await agent.start_container(container, RecordedIO(None), TIMEOUT)
            second = await agent.exec("c1", Cmd(args=["true"]), RecordedIO(), TIMEOUT)
            assert await agent.wait(second) == 0
            assert len(guest.processes) == 2, "an ended process waits for a frame to be released with"
            stopping = asyncio.ensure_future(agent.stop_pod(TIMEOUT))
            while len(guest.processes) > 1:  # noqa: ASYNC110 - the guest has no event for a release
                await asyncio.sleep(0)
            guest.processes[int(first.process_id)].kill(signal.SIGTERM)
            while guest.processes:  # noqa: ASYNC110
                await asyncio.sleep(0)
            stopping.cancel()
            await asyncio.wait({stopping})
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
