"""The contract kit finds hypervisors that break the contract: each is sabotaged on purpose."""

from __future__ import annotations

import pytest

from sabotage import Sabotage, check, run_kit

pytestmark = pytest.mark.slow

HEAD = """
import asyncio
import os

import pytest

from vc_core.driver import HypervisorCapability, hookimpl
from vc_core.testing import HypervisorContract
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
"""

#: What is wrong -> a test class with a driver like that, and the promise that it breaks.
SABOTAGE = {
    "GoodHypervisor": Sabotage("(_Hypervisor): pass"),
    "DescribesNoOption": Sabotage(
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
    "WritesWhenMade": Sabotage(
        """(_Hypervisor):
    def at_creation(self, pod):
        pod.run_dir.mkdir(parents=True, exist_ok=True)
""",
        "create_has_no_side_effects",
    ),
    "StartsAProcessWhenMade": Sabotage(
        """(_Hypervisor):
    def at_creation(self, pod):
        import subprocess
        subprocess.run(["true"])
""",
        "create_has_no_side_effects",
    ),
    "RaisesItsOwn": Sabotage(
        """(_Hypervisor):
    class hypervisor(MockHypervisor):
        async def stop(self, timeout):
            raise RuntimeError("bad day")
""",
        "test_a_vm_that_was_never_prepared_can_be_stopped",
    ),
    "ClaimsTooLittle": Sabotage(
        """(_Hypervisor):
    class hypervisor(MockHypervisor):
        capabilities = frozenset()
""",
        "test_an_operation_without_its_capability_is_not_supported[pause]",
    ),
    "ClaimsTooMuch": Sabotage(
        """(_Hypervisor):
    class hypervisor(MockHypervisor):
        capabilities = MockHypervisor.capabilities.fget(None) | {HypervisorCapability.HOTPLUG}
        def add_device(self, device): pass
""",
        "test_a_disk_comes_to_and_goes_from_a_vm_that_runs",
    ),
    "BoastsOfIsolation": Sabotage(
        """(_Hypervisor):
    class hypervisor(MockHypervisor):
        isolation = "hardware"
""",
        "test_no_isolation_is_claimed_under_emulation",
    ),
    "ForgetsTheWaiters": Sabotage(
        """(_Hypervisor):
    class hypervisor(MockHypervisor):
        async def wait(self):
            return await super().wait() and None
""",
        "test_a_vm_runs_until_it_is_stopped_and_then_every_wait_returns",
    ),
    "LeaksADescriptor": Sabotage(
        """(_Hypervisor):
    class hypervisor(MockHypervisor):
        async def prepare(self, timeout):
            await super().prepare(timeout)
            os.open("/dev/null", os.O_RDONLY)
""",
        "test_the_process_of_a_vm_exists_from_prepare_on_and_is_gone_after_stop",
    ),
    "SavesWhatIsNoJson": Sabotage(
        """(_Hypervisor):
    class hypervisor(MockHypervisor):
        def save(self):
            return {"pod": object()}
""",
        "test_the_vm_of_an_owner_that_was_killed_is_controlled_through_what_it_saved[started]",
    ),
    "StrikesAPromiseOut": Sabotage(
        """(_Hypervisor):
    test_a_vm_that_was_never_prepared_can_be_stopped = None
""",
        "test_no_promise_was_struck_out",
    ),
    "GivesNoReason": Sabotage(
        """(_Hypervisor):
    @pytest.mark.xfail
    def test_a_vm_that_was_never_prepared_can_be_stopped(self): pass
""",
        "test_no_promise_was_struck_out",
    ),
    "GivesAReason": Sabotage(
        """(_Hypervisor):
    @pytest.mark.xfail(reason="issue 7")
    def test_a_vm_that_was_never_prepared_can_be_stopped(self): assert False
""",
    ),
}


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """The failed tests of each class, with their messages."""
    return run_kit(tmp_path_factory.mktemp("sabotage"), HEAD, SABOTAGE)


@pytest.mark.parametrize("name", [name for name, one in SABOTAGE.items() if not one.promise])
def test_a_good_hypervisor_keeps_the_contract(failed: dict[str, dict[str, str]], name: str) -> None:
    check(SABOTAGE[name], failed[name])


@pytest.mark.parametrize("name", [name for name, one in SABOTAGE.items() if one.promise])
def test_a_broken_promise_is_found(failed: dict[str, dict[str, str]], name: str) -> None:
    check(SABOTAGE[name], failed[name])
