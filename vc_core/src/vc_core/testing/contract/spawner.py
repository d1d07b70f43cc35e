"""The contract of spawners."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from vc_core.driver.kinds import PluginKind
from vc_core.driver.spawner import Spawner, SpawnTarget
from vc_core.errors import ConfigError
from vc_core.plugins.audit import record_side_effects
from vc_core.plugins.drivers import SpawnerDriver
from vc_core.testing.contract.agent.probes import DATA, WORDS, same
from vc_core.testing.contract.plugin import PluginContract
from vc_core.testing.contract.running import unwritten_methods_fail
from vc_core.testing.enterable import DASHED_PROGRAM, NAME_FILE, NAMESPACES, Enterable, host_containers

#: Commands with every character that a shell, and every word that an option parser, would interpret.
COMMANDS = (
    ["true"],
    ["sh", "-c", "echo 'a  b' \"$HOME\"; exit 3"],
    ["echo", "", " ", "-n", "--", "--pid", "a\nb", "\\", "*", "~", "$(id)", "`id`", "é", "%n"],
    ["-program"],
    ["A=b", "c"],
)

TARGET = SpawnTarget("c1", 4711)

#: Prints the id of the container in which it runs, and its arguments with NUL after each.
_REPORT = ("sh", "-c", f"cat {NAME_FILE}; for word; do printf '%s\\0' \"$word\"; done", "sh")


class SpawnerContract(PluginContract):
    """Subclass this for a spawner, and set ``driver_name``.

    Its commands are run: by default on this host as root, in namespaces made for that. For a program that only a guest
    has, override the fixture ``containers`` with one around ``vc_core.testing.enterable.guest_containers``.
    ``namespaces`` are those that it enters, by their names in /proc/PID/ns; the root directory is entered in any case.
    """

    kind = PluginKind.SPAWNER
    namespaces: ClassVar[Collection[str]] = NAMESPACES

    @pytest.fixture
    def spawner(self, driver: SpawnerDriver, options: Mapping[str, object]) -> Spawner:
        """The object under test."""
        return driver.create(driver.config(options))

    @pytest.fixture
    def containers(self, tmp_path: Path) -> Iterator[Sequence[Enterable]]:
        """Two running containers to enter."""
        with host_containers(tmp_path) as made:
            yield made

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

    def test_a_command_runs_in_its_container_with_its_words_byte_for_byte(
        self, spawner: Spawner, containers: Sequence[Enterable]
    ) -> None:
        for one in containers:
            wrapped = _wrap(spawner, [*_REPORT, *WORDS], one.target)
            done = one.run(wrapped, b"")
            assert done.exit_code == 0, f"{wrapped[:8]} ended with {done.exit_code}: {done.stderr[-200:]!r}"
            name, _, words = done.stdout.partition(b"\n")
            assert name.decode() == one.target.container_id, (
                f"a command for container {one.target.container_id} ran in {name!r}, with other words, or in none"
            )
            same("the words of a command", words, b"".join(word.encode() + b"\0" for word in WORDS))

    def test_a_command_runs_in_the_namespaces_of_its_container(
        self, spawner: Spawner, containers: Sequence[Enterable]
    ) -> None:
        for one in containers:
            for kind in self.namespaces:
                done = one.run(_wrap(spawner, ["readlink", f"/proc/self/ns/{kind}"], one.target), b"")
                assert done.stdout.decode().strip() == one.namespaces[kind], (
                    f"a command is not in its container's namespace {kind}, but in {done.stdout!r}: {done.stderr!r}"
                )

    def test_a_command_keeps_its_streams_and_its_exit_code(
        self, spawner: Spawner, containers: Sequence[Enterable]
    ) -> None:
        one = containers[0]
        done = one.run(_wrap(spawner, ["sh", "-c", "cat; echo error >&2; exit 7"], one.target), DATA)
        same("the output of a command that copies its input", done.stdout, DATA)
        same("the error output of a command", done.stderr, b"error\n")
        assert done.exit_code == 7, f"a command that exits with 7 ended with {done.exit_code}"

    def test_a_program_is_not_taken_for_an_option(self, spawner: Spawner, containers: Sequence[Enterable]) -> None:
        one = containers[0]
        done = one.run(_wrap(spawner, [DASHED_PROGRAM], one.target), b"")
        assert done.stdout == b"ran\n", f"the program {DASHED_PROGRAM!r} did not run: {done.stderr!r}"


def _wrap(spawner: Spawner, argv: Sequence[str], target: SpawnTarget) -> list[str]:
    with unwritten_methods_fail():
        return spawner.wrap(argv, target)
