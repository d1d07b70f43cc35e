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
                ended = None
                if AgentCapability.EXEC in first.capabilities:
                    # It may end before or after the first agent: its exit code is kept for the second in any case.
                    ended = await self._start_container(first, "c2", (*self.commands.exit, "7"), RecordedIO())
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
                    if ended is not None:
                        await second.adopt(ended, RecordedIO())
                        code = await self._exit_code(second, ended, "a container that ended under two owners")
                        assert code == 7, f"a container that exits with 7 ended with {code} for its second owner"
                    await second.signal_container("c1", signal.SIGKILL, TIMEOUT)
                    code = await self._exit_code(second, process, "a container that was killed by its second owner")
                    assert code == 128 + signal.SIGKILL
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
