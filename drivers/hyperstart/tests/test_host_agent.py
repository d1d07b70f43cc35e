"""The agent against a guest that keeps to the protocol, ours and originals."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from vc_core.agent import GuestContainer
from vc_core.config import Cmd
from vc_core.testing.fake_hyperstart import FakeHyperstart, pattern
from vc_core.testing.process_io import RecordedIO

DEADLINE = 10

GUESTS = {
    "ours": {},
    "2016": {"ours": False},
    "4243": {"ours": False, "api": 4243},
    "4244": {"ours": False, "api": 4244},
}


def run(main) -> None:
    asyncio.run(asyncio.wait_for(main, 30))


@asynccontextmanager
async def pod(make_agent, **guest_options):
    """A guest with a started pod, whose container c1 sleeps, and the agent connected to it."""
    async with FakeHyperstart(**guest_options) as guest:
        agent = make_agent()
        await agent.connect(guest.open_channel, DEADLINE)
        try:
            await agent.start_pod("p1", DEADLINE)
            container = GuestContainer("c1", "c1/rootfs", Cmd(args=["sleep"]))
            await agent.start_container(container, RecordedIO(None), DEADLINE)
            yield guest, agent
        finally:
            await agent.aclose()
        assert guest.violations == []


async def command(agent, *args, stdin=b"", terminal=False):
    io = RecordedIO(stdin)
    process = await agent.exec("c1", Cmd(args=args), io, DEADLINE, terminal=terminal)
    return await agent.wait(process), io


@pytest.fixture(params=GUESTS)
def guest_options(request):
    return GUESTS[request.param]


def test_exec_gives_output_on_the_right_stream_and_the_exit_code(make_agent, guest_options):
    async def main():
        async with pod(make_agent, **guest_options) as (_, agent):
            status, io = await command(agent, "echo", "hello", "world")
            assert (status, bytes(io.stdout), bytes(io.stderr)) == (0, b"hello world\n", b"")
            status, io = await command(agent, "warn", "oh")
            assert (status, bytes(io.stdout), bytes(io.stderr)) == (0, b"", b"oh\n")
            status, _ = await command(agent, "exit", "42")
            assert status == 42

    run(main())


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 1_000_000])
def test_output_of_any_size_is_exact_when_wait_returns(make_agent, guest_options, size):
    async def main():
        async with pod(make_agent, **guest_options) as (_, agent):
            status, io = await command(agent, "pattern", str(size))
            assert status == 0
            assert io.stdout == pattern(size)

    run(main())


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 65535, 65536, 65537, 200_000])
def test_input_of_any_size_arrives_and_ends(make_agent, guest_options, size):
    async def main():
        async with pod(make_agent, **guest_options) as (_, agent):
            status, io = await command(agent, "cat", stdin=pattern(size))
            assert status == 0
            assert io.stdout == pattern(size)

    run(main())
