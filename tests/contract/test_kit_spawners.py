"""The contract kit finds spawners that break the contract: each is sabotaged on purpose."""

from __future__ import annotations

import pytest

from sabotage import Sabotage, check, run_kit

pytestmark = pytest.mark.slow

HEAD = """
import pytest

from vc_core.driver import Spawner, hookimpl
from vc_core.errors import ConfigError
from vc_core.testing import SpawnerContract


class _Spawner(SpawnerContract):
    def wrap(self, argv, target):
        if target.pid <= 1:
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
    "GoodSpawner": Sabotage("(_Spawner): pass"),
    "JoinsWords": Sabotage(
        """(_Spawner):
    def wrap(self, argv, target):
        return ["enter", " ".join(argv)]
""",
        "test_a_command_is_passed_on_byte_for_byte_at_the_end[sh]",
    ),
    "EntersAnything": Sabotage(
        """(_Spawner):
    def wrap(self, argv, target):
        return ["enter", str(target.pid), *argv]
""",
        "test_an_invalid_target_is_refused[1]",
    ),
}


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """The failed tests of each class, with their messages."""
    return run_kit(tmp_path_factory.mktemp("sabotage"), HEAD, SABOTAGE)


@pytest.mark.parametrize("name", [name for name, one in SABOTAGE.items() if not one.promise])
def test_a_good_spawner_keeps_the_contract(failed: dict[str, dict[str, str]], name: str) -> None:
    check(SABOTAGE[name], failed[name])


@pytest.mark.parametrize("name", [name for name, one in SABOTAGE.items() if one.promise])
def test_a_broken_promise_is_found(failed: dict[str, dict[str, str]], name: str) -> None:
    check(SABOTAGE[name], failed[name])
