"""A guest outlives the process that controls it; an agent in another process takes it over."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress

import pytest

from vc_core.driver.agent import Agent, AgentCapability
from vc_core.errors import AgentError, VCError
from vc_core.testing.contract.agent.base import AgentFixtures, StartGuest
from vc_core.testing.contract.running import TIMEOUT, run
from vc_core.testing.process_io import RecordedIO


class TakeOver(AgentFixtures):
    """A guest outlives the process that controls it; an agent in another process takes it over."""

    def test_another_agent_takes_over_through_what_was_saved(
        self, make: Callable[..., Agent], guest: StartGuest
    ) -> None:
        async def main() -> None:
            async with self._connected(make, guest) as (first, wire):
                if AgentCapability.REATTACH not in first.capabilities:
                    pytest.skip(f"the agent does not claim to have {AgentCapability.REATTACH}")
                process = await self._start(first)
                waiting = asyncio.create_task(first.wait(process))
                await asyncio.sleep(0)
                saved = json.loads(json.dumps(dict(first.save())))
                wire.cut()  # as the end of the first agent's process does
                await first.aclose()
                with pytest.raises(AgentError):
                    await waiting
                second = make(saved)
                try:
                    await second.connect(wire.open_channel, TIMEOUT)
                    await second.adopt(process, RecordedIO(None))
                    await second.signal_container("c1", signal.SIGKILL, TIMEOUT)
                    assert await second.wait(process) == 128 + signal.SIGKILL
                finally:
                    await second.aclose()

        run(main())

    @pytest.mark.parametrize("saved", [{"contract": 1}, {"processes": 7}, {"version": 10**9}], ids=str)
    def test_state_that_another_version_saved_raises_at_worst_a_vc_error(
        self, make: Callable[..., Agent], saved: Mapping[str, object]
    ) -> None:
        async def main() -> None:
            with suppress(VCError):
                await make(saved).aclose()

        run(main())
