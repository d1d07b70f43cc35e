"""The contract of an agent that speaks the hyperstart protocol: it survives every misbehaviour of the guest."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import pytest

from vc_agent_hyperstart.codec import Code
from vc_agent_hyperstart.testing.fake_guest import FakeHyperstart
from vc_agent_hyperstart.testing.misbehaviour import Misbehaviour
from vc_agent_hyperstart.testing.probes import COMMANDS, PROBES
from vc_core.driver import Agent, Cmd, GuestContainer, PodContext
from vc_core.errors import VCError
from vc_core.testing.contract.agent import IN_TIME, MUCH, AgentContract, StartGuest
from vc_core.testing.contract.running import run
from vc_core.testing.process_io import RecordedIO

#: Seconds for one exchange with a guest that may never answer.
_TIMEOUT = 0.3


class HyperstartContract(AgentContract):
    """The tests of an agent that speaks the hyperstart protocol. Subclass it and set ``driver_name``."""

    commands = COMMANDS

    @pytest.fixture
    def guest(self, pod: PodContext) -> StartGuest:
        """Return what starts a fake guest."""
        return partial(
            FakeHyperstart, programs=PROBES, share=pod.share_dir, writable=pod.writable_dir, roots=pod.roots_dir
        )

    @pytest.mark.parametrize("at", [Code.GETVERSION, Code.NEWCONTAINER, Code.EXECCMD], ids=lambda code: code.name)
    @pytest.mark.parametrize("misbehaviour", Misbehaviour)
    def test_whatever_the_guest_does_each_call_ends_in_time_and_no_exit_code_is_made_up(
        self, make: Callable[..., Agent], misbehaviour: Misbehaviour, at: Code
    ) -> None:
        async def main() -> None:
            async with FakeHyperstart(misbehaviour=misbehaviour, at=at, length=2**31, programs=PROBES) as guest:
                agent = make()
                try:
                    with suppress(VCError):
                        async with asyncio.timeout(IN_TIME):
                            await agent.connect(guest.open_channel, _TIMEOUT)
                            await agent.start_pod("contract", "", _TIMEOUT)
                            container = GuestContainer("c1", self.root_fs, Cmd(args=self.commands.run_on))
                            await agent.start_container(container, RecordedIO(None), _TIMEOUT)
                            command = Cmd(args=(*self.commands.exit, "7"))
                            process = await agent.exec("c1", command, RecordedIO(bytes(MUCH)), _TIMEOUT)
                            assert await self._code(agent.wait(process)) in (7, None)
                finally:
                    async with asyncio.timeout(IN_TIME):
                        await agent.aclose()

        run(main())

    @staticmethod
    async def _code(wait: Awaitable[int]) -> int | None:
        """Return the result of a wait, or None at the timeout: a guest need not report an end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_TIMEOUT):
                return await wait
        return None
