"""The contract kit finds agents that break the contract: each is sabotaged on purpose."""

from __future__ import annotations

import pytest

from sabotage import Sabotage, check, run_kit

pytestmark = pytest.mark.slow

HEAD = """
import pytest

from vc_agent_noop.agent import NoopAgent
from vc_agent_noop.plugin import NoopPlugin
from vc_core.driver import AgentCapability, hookimpl
from vc_core.testing import AgentContract


class _Agent(AgentContract):
    agent = NoopAgent

    @pytest.fixture
    def driver(self):
        agent = self.agent

        class Plugin(NoopPlugin):
            @hookimpl
            def vc_agent_create(self, saved):
                return agent(saved)

        return self.injected(Plugin())


class _DriversContract(_Agent):
    __module__ = "vc_agent_noop.testing.contract"

    def test_it_promises_more(self):
        pass
"""

#: What is wrong -> a test class with a driver like that, and the promise that it breaks.
SABOTAGE = {
    "GoodAgent": Sabotage("(_Agent): pass"),
    "StrikesAPromiseOfADriverOut": Sabotage(
        """(_DriversContract):
    test_it_promises_more = None
""",
        "test_no_promise_was_struck_out",
    ),
    "MakesUpAnExitCode": Sabotage(
        """(_Agent):
    class agent(NoopAgent):
        async def wait(self, process):
            return await super().wait(process) and 0
""",
        "test_a_container_runs_until_it_is_killed_and_then_every_wait_returns",
    ),
    "ForgetsAtTakingOver": Sabotage(
        """(_Agent):
    class agent(NoopAgent):
        async def adopt(self, process, io):
            pass
""",
        "test_another_agent_takes_over_through_what_was_saved",
    ),
    "ClaimsToRunCommands": Sabotage(
        """(_Agent):
    class agent(NoopAgent):
        capabilities = frozenset({AgentCapability.EXEC})
""",
        "test_a_command_ends_with_its_own_exit_code",
    ),
    "RunsInThePodUnclaimed": Sabotage(
        """(_Agent):
    class agent(NoopAgent):
        capabilities = frozenset({AgentCapability.EXEC})
""",
        "test_a_command_can_run_in_the_pod_itself",
    ),
    "IsNotWrittenYet": Sabotage(
        """(_Agent):
    class agent(NoopAgent):
        async def start_container(self, container, io, timeout):
            raise NotImplementedError("start_container: start the container's process")
""",
        "test_a_container_that_ended_can_be_removed_and_started_again",
    ),
}


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """The failed tests of each class, with their messages."""
    return run_kit(tmp_path_factory.mktemp("sabotage"), HEAD, SABOTAGE)


@pytest.mark.parametrize("name", [name for name, one in SABOTAGE.items() if not one.promise])
def test_a_good_agent_keeps_the_contract(failed: dict[str, dict[str, str]], name: str) -> None:
    check(SABOTAGE[name], failed[name])


@pytest.mark.parametrize("name", [name for name, one in SABOTAGE.items() if one.promise])
def test_a_broken_promise_is_found(failed: dict[str, dict[str, str]], name: str) -> None:
    check(SABOTAGE[name], failed[name])


def test_a_method_that_is_not_written_yet_fails_with_one_line(failed: dict[str, dict[str, str]]) -> None:
    (message,) = failed["IsNotWrittenYet"].values()
    assert message.splitlines()[0] == "Failed: still to be written: start_container: start the container's process"
