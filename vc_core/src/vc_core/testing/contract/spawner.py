"""The contract of spawners."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from vc_core.driver.kinds import PluginKind
from vc_core.driver.spawner import Spawner, SpawnTarget
from vc_core.errors import ConfigError
from vc_core.plugins.audit import record_side_effects
from vc_core.plugins.drivers import SpawnerDriver
from vc_core.testing.contract.plugin import PluginContract
from vc_core.testing.contract.running import unwritten_methods_fail

#: Commands with every character that a shell, and every word that an option parser, would interpret.
COMMANDS = (
    ["true"],
    ["sh", "-c", "echo 'a  b' \"$HOME\"; exit 3"],
    ["echo", "", " ", "-n", "--", "--pid", "a\nb", "\\", "*", "~", "$(id)", "`id`", "é", "%n"],
    ["-program"],
    ["A=b", "c"],
)

TARGET = SpawnTarget("c1", 4711)


class SpawnerContract(PluginContract):
    """Subclass this for a spawner, and set ``driver_name``."""

    kind = PluginKind.SPAWNER

    @pytest.fixture
    def spawner(self, driver: SpawnerDriver, options: Mapping[str, object]) -> Spawner:
        """The object under test."""
        return driver.create(driver.config(options))

    @pytest.mark.parametrize("argv", COMMANDS, ids=lambda argv: argv[0])
    def test_a_command_is_passed_on_byte_for_byte_at_the_end(self, spawner: Spawner, argv: Sequence[str]) -> None:
        with unwritten_methods_fail():
            wrapped = spawner.wrap(argv, TARGET)
        assert isinstance(wrapped, list)
        assert wrapped[-len(argv) :] == argv
        assert len(wrapped) > len(argv)
        assert all(isinstance(word, str) for word in wrapped)

    def test_another_target_makes_another_command(self, spawner: Spawner) -> None:
        with unwritten_methods_fail():
            assert spawner.wrap(["true"], TARGET) != spawner.wrap(["true"], SpawnTarget("c2", 4712))

    def test_wrapping_only_computes(self, spawner: Spawner) -> None:
        argv = ["echo", "x"]
        with record_side_effects() as events, unwritten_methods_fail():
            assert spawner.wrap(argv, TARGET) == spawner.wrap(tuple(argv), TARGET)
        assert events == []
        assert argv == ["echo", "x"]

    @pytest.mark.parametrize("pid", [1, 0, -1])
    def test_an_invalid_target_is_refused(self, spawner: Spawner, pid: int) -> None:
        with unwritten_methods_fail(), pytest.raises(ConfigError, match=str(pid)):
            spawner.wrap(["true"], SpawnTarget("c1", pid))
