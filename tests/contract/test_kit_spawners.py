"""The contract kit finds spawners that break the contract: each is sabotaged on purpose."""

from __future__ import annotations

import pytest

from sabotage import Sabotage, check, run_kit

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.needs("nsenter", "unshare")]

_RUNS = "test_a_command_runs_in_its_container_with_its_words_byte_for_byte"

HEAD = """
import pytest

from vc_core.driver import Spawner, hookimpl
from vc_core.errors import ConfigError
from vc_core.testing import SpawnerContract


class _Spawner(SpawnerContract):
    # It works, in two steps for tests to break: what enters the target, and the words that it runs.

    def enter(self, pid):
        return ["nsenter", "--target", str(pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--"]

    def words(self, argv):
        return [*argv]

    def wrap(self, argv, target):
        if target.pid <= 1:
            raise ConfigError(f"pid {target.pid}")
        return [*self.enter(target.pid), *self.words(argv)]

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
    "GoodSpawnerWithAShell": Sabotage(
        """(_Spawner):
    def wrap(self, argv, target):
        return ["sh", "-c", 'exec "$@"', "sh", *super().wrap(argv, target)]
"""
    ),
    "JoinsWords": Sabotage(
        """(_Spawner):
    def words(self, argv):
        return [" ".join(argv)]
""",
        "test_a_command_is_passed_on_byte_for_byte_at_the_end[sh]",
    ),
    "EntersAnything": Sabotage(
        """(_Spawner):
    def wrap(self, argv, target):
        return [*self.enter(target.pid), *argv]
""",
        "test_an_invalid_target_is_refused[1]",
    ),
    "DropsEmptyWords": Sabotage(
        """(_Spawner):
    def words(self, argv):
        return [word for word in argv if word]
""",
        "byte_for_byte_at_the_end[echo]",
    ),
    # Those below keep the words at the end of the result, so that only a run of it shows what is wrong.
    "LetsAShellReadTheWords": Sabotage(
        """(_Spawner):
    def wrap(self, argv, target):
        return ["sh", "-c", " ".join(super().wrap(["$0", "$@"], target)), *argv]
""",
        _RUNS,
        "with other words",
    ),
    "LosesEmptyWordsInAShell": Sabotage(
        """(_Spawner):
    def wrap(self, argv, target):
        script = 'n=$#; while [ $n -gt 0 ]; do [ -z "$1" ] || set -- "$@" "$1"; shift; n=$((n - 1)); done; exec "$@"'
        return ["sh", "-c", script, "sh", *super().wrap(argv, target)]
""",
        _RUNS,
        "bytes are lost",
    ),
    "ReordersWordsInAShell": Sabotage(
        """(_Spawner):
    def wrap(self, argv, target):
        enter = " ".join(self.enter(target.pid))
        script = f'a=$1 b=$2 c=$3 d=$4 e=$5 f=$6; shift 6; exec {enter} "$a" "$b" "$c" "$d" "$f" "$e" "$@"'
        return ["sh", "-c", script, "sh", *argv]
""",
        _RUNS,
        "the words of a command: ",
    ),
    "EntersWhatItEnteredFirst": Sabotage(
        """(_Spawner):
    first = []

    def enter(self, pid):
        self.first.append(pid)
        words = super().enter(pid)
        words[2] = f"{pid}" if pid == 4711 or pid == 4712 else str(self.first[0])
        return words
""",
        _RUNS,
        "a command for container c2 ran in b'c1'",
    ),
    "EntersNothing": Sabotage(
        """(_Spawner):
    def enter(self, pid):
        return ["env", f"TARGET={pid}"]
""",
        _RUNS,
    ),
    "EntersTheRootOnly": Sabotage(
        """(_Spawner):
    def enter(self, pid):
        return ["chroot", f"/proc/{pid}/root"]
""",
        "test_a_command_runs_in_the_namespaces_of_its_container",
        "a command is not in its container's namespace pid",
    ),
    "EntersTheRootOnlyAndSaysSo": Sabotage(
        """(_Spawner):
    namespaces = ()

    def enter(self, pid):
        return ["chroot", "--", f"/proc/{pid}/root"]
"""
    ),
    "ForgetsThePidNamespace": Sabotage(
        """(_Spawner):
    def enter(self, pid):
        return [word for word in super().enter(pid) if word != "--pid"]
""",
        "test_a_command_runs_in_the_namespaces_of_its_container",
        "a command is not in its container's namespace pid",
    ),
    "DoesNotEndItsOptions": Sabotage(
        """(_Spawner):
    def enter(self, pid):
        return super().enter(pid)[:-1]
""",
        "test_a_program_is_not_taken_for_an_option",
        "the program '-program' did not run",
    ),
    "MakesUpExitCodes": Sabotage(
        """(_Spawner):
    def wrap(self, argv, target):
        return ["sh", "-c", '"$@"; exit 0', "sh", *super().wrap(argv, target)]
""",
        "test_a_command_keeps_its_streams_and_its_exit_code",
        "a command that exits with 7 ended with 0",
    ),
    "MixesTheOutputs": Sabotage(
        """(_Spawner):
    def wrap(self, argv, target):
        return ["sh", "-c", 'exec "$@" 2>&1', "sh", *super().wrap(argv, target)]
""",
        "test_a_command_keeps_its_streams_and_its_exit_code",
        "the output of a command that copies its input",
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
