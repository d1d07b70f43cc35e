"""The contract kit finds drivers that break the contract: each is sabotaged on purpose."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

HEAD = """
import asyncio
import os

import pytest

from vc_agent_noop.agent import NoopAgent
from vc_agent_noop.plugin import NoopPlugin
from vc_core.driver import AgentCapability
from vc_core.errors import NotSupportedError
from vc_core.driver import hookimpl
from vc_core.driver import HypervisorCapability
from vc_core.driver import Spawner
from vc_core.testing import AgentContract, HypervisorContract, SpawnerContract
from vc_hypervisor_mock.hypervisor import MockHypervisor
from vc_hypervisor_mock.plugin import MockPlugin


class _Hypervisor(HypervisorContract):
    hypervisor = MockHypervisor
    plugin = MockPlugin

    @pytest.fixture
    def driver(self):
        outer = self

        class Plugin(self.plugin):
            @hookimpl
            def vc_hypervisor_create(self, pod, config, saved):
                outer.at_creation(pod)
                return outer.hypervisor(pod, config, saved)

        return self.injected(Plugin())

    def at_creation(self, pod):
        pass


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


class _Spawner(SpawnerContract):
    def wrap(self, argv, target):
        if target.pid <= 1:
            from vc_core.errors import ConfigError
            raise ConfigError(f"pid {target.pid}")
        return ["enter", str(target.pid), *argv]

    @pytest.fixture
    def driver(self):
        outer = self

        class Made(Spawner):
            def wrap(self, argv, target):
                return outer.wrap(argv, target)

        class Plugin:
            @hookimpl
            def vc_spawner_create(self):
                return Made()

        return self.injected(Plugin())
"""

#: What is wrong -> a test class with a driver like that, and the promise that it breaks.
SABOTAGE = {
    "GoodHypervisor": ("(_Hypervisor): pass", ""),
    "GoodAgent": ("(_Agent): pass", ""),
    "GoodSpawner": ("(_Spawner): pass", ""),
    "DescribesNoOption": (
        """(_Hypervisor):
    class plugin(MockPlugin):
        @hookimpl
        def vc_driver_options(self):
            from dataclasses import dataclass

            @dataclass(frozen=True)
            class Options(super().vc_driver_options()):
                colour: str = "red"

            return Options
""",
        "options_are_described",
    ),
    "WritesWhenMade": (
        """(_Hypervisor):
    def at_creation(self, pod):
        pod.run_dir.mkdir(parents=True, exist_ok=True)
""",
        "create_has_no_side_effects",
    ),
    "StartsAProcessWhenMade": (
        """(_Hypervisor):
    def at_creation(self, pod):
        import subprocess
        subprocess.run(["true"])
""",
        "create_has_no_side_effects",
    ),
    "RaisesItsOwn": (
        """(_Hypervisor):
    class hypervisor(MockHypervisor):
        async def stop(self, timeout):
            raise RuntimeError("bad day")
""",
        "test_a_vm_that_was_never_prepared_can_be_stopped",
    ),
    "ClaimsTooLittle": (
        """(_Hypervisor):
    class hypervisor(MockHypervisor):
        capabilities = frozenset()
""",
        "test_an_operation_without_its_capability_is_not_supported[pause]",
    ),
    "ClaimsTooMuch": (
        """(_Hypervisor):
    class hypervisor(MockHypervisor):
        capabilities = MockHypervisor.capabilities.fget(None) | {HypervisorCapability.HOTPLUG}
        def add_device(self, device): pass
""",
        "test_a_disk_comes_to_and_goes_from_a_vm_that_runs",
    ),
    "BoastsOfIsolation": (
        """(_Hypervisor):
    class hypervisor(MockHypervisor):
        isolation = "hardware"
""",
        "test_no_isolation_is_claimed_under_emulation",
    ),
    "ForgetsTheWaiters": (
        """(_Hypervisor):
    class hypervisor(MockHypervisor):
        async def wait(self):
            return await super().wait() and None
""",
        "test_a_vm_runs_until_it_is_stopped_and_then_every_wait_returns",
    ),
    "LeaksADescriptor": (
        """(_Hypervisor):
    class hypervisor(MockHypervisor):
        async def prepare(self, timeout):
            await super().prepare(timeout)
            os.open("/dev/null", os.O_RDONLY)
""",
        "test_the_process_of_a_vm_exists_from_prepare_on_and_is_gone_after_stop",
    ),
    "SavesWhatIsNoJson": (
        """(_Hypervisor):
    class hypervisor(MockHypervisor):
        def save(self):
            return {"pod": object()}
""",
        "test_the_vm_of_an_owner_that_was_killed_is_controlled_through_what_it_saved[started]",
    ),
    "StrikesAPromiseOut": (
        """(_Hypervisor):
    test_a_vm_that_was_never_prepared_can_be_stopped = None
""",
        "test_no_promise_was_struck_out",
    ),
    "StrikesAPromiseOfADriverOut": (
        """(_DriversContract):
    test_it_promises_more = None
""",
        "test_no_promise_was_struck_out",
    ),
    "GivesNoReason": (
        """(_Hypervisor):
    @pytest.mark.xfail
    def test_a_vm_that_was_never_prepared_can_be_stopped(self): pass
""",
        "test_no_promise_was_struck_out",
    ),
    "GivesAReason": (
        """(_Hypervisor):
    @pytest.mark.xfail(reason="issue 7")
    def test_a_vm_that_was_never_prepared_can_be_stopped(self): assert False
""",
        "",
    ),
    "MakesUpAnExitCode": (
        """(_Agent):
    class agent(NoopAgent):
        async def wait(self, process):
            return await super().wait(process) and 0
""",
        "test_a_container_runs_until_it_is_killed_and_then_every_wait_returns",
    ),
    "ForgetsAtTakingOver": (
        """(_Agent):
    class agent(NoopAgent):
        async def adopt(self, process, io):
            pass
""",
        "test_another_agent_takes_over_through_what_was_saved",
    ),
    "ClaimsToRunCommands": (
        """(_Agent):
    class agent(NoopAgent):
        capabilities = frozenset({AgentCapability.EXEC})
""",
        "test_a_command_ends_with_its_own_exit_code",
    ),
    "RunsInThePodUnclaimed": (
        """(_Agent):
    class agent(NoopAgent):
        capabilities = frozenset({AgentCapability.EXEC})
""",
        "test_a_command_can_run_in_the_pod_itself",
    ),
    "IsNotWrittenYet": (
        """(_Agent):
    class agent(NoopAgent):
        async def start_container(self, container, io, timeout):
            raise NotImplementedError("start_container: start the container's process")
""",
        "test_a_container_that_ended_can_be_removed_and_started_again",
    ),
    "JoinsWords": (
        """(_Spawner):
    def wrap(self, argv, target):
        return ["enter", " ".join(argv)]
""",
        "test_a_command_is_passed_on_byte_for_byte_at_the_end[sh]",
    ),
    "EntersAnything": (
        """(_Spawner):
    def wrap(self, argv, target):
        return ["enter", str(target.pid), *argv]
""",
        "test_an_invalid_target_is_refused[1]",
    ),
}


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The failed tests of each class; pytest's whole output under ""."""
    folder = tmp_path_factory.mktemp("sabotage")
    module = folder / "test_sabotage.py"
    module.write_text(
        "\n\n".join([HEAD, *(f"class Test{name}{body}" for name, (body, _) in SABOTAGE.items())]), encoding="utf-8"
    )
    pytest_ = [sys.executable, "-m", "pytest", "-q", "-rfE", "--tb=short", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*pytest_, "--rootdir", folder, module],
        env={**os.environ, "COLUMNS": "400"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    found: dict[str, set[str]] = {name: set() for name in SABOTAGE}
    for name, test in re.findall(r"^(?:FAILED|ERROR) \S+::Test(\w+)::(.+?)(?: - .*)?$", done.stdout, re.MULTILINE):
        found[name].add(test)
    found[""] = set(done.stdout.splitlines())
    return found


@pytest.mark.parametrize("name", [name for name, (_, promise) in SABOTAGE.items() if not promise])
def test_a_good_driver_keeps_the_contract(failures: dict[str, set[str]], name: str) -> None:
    assert failures[name] == set()


@pytest.mark.parametrize("name", [name for name, (_, promise) in SABOTAGE.items() if promise])
def test_a_broken_promise_is_found(failures: dict[str, set[str]], name: str) -> None:
    _, promise = SABOTAGE[name]
    assert any(promise in test for test in failures[name]), failures[name]


def test_a_method_that_is_not_written_yet_fails_with_one_line(failures: dict[str, set[str]]) -> None:
    assert "still to be written: start_container: start the container's process" in {
        line.removeprefix("E   Failed: ") for line in failures[""]
    }
