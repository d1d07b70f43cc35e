"""What the agent reads from outside, under the sanitizers; see the driver's README for longer runs."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

FUZZER = Path(__file__).parent / "fuzz"

#: Seconds that it runs here, and rounds that it makes in that time even on a busy machine.
TIME, ROUNDS = 10, 5_000


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Path]:
    """Compile the fuzzer with more options of the compiler, and return its path."""

    def make(*options: str) -> Path:
        target = tmp_path / "fuzz"
        subprocess.run([FUZZER / "build", target, *options], check=True)
        return target

    return make


def run(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *arguments], capture_output=True, encoding="utf-8", timeout=TIME + 120)


def test_nothing_that_comes_from_outside_harms_the_agent(build: Callable[..., Path]) -> None:
    result = run(build(), str(TIME), "1")
    assert (result.returncode, result.stderr) == (0, "")
    assert int(result.stdout.split()[0]) > ROUNDS


def test_a_planted_error_is_found_and_its_round_is_named(build: Callable[..., Path]) -> None:
    result = run(build("-DPLANTED_ERROR=1"), str(TIME), "1")
    assert result.returncode != 0
    assert "heap-buffer-overflow" in result.stderr
    assert "repeat it by: fuzz 0 1 " in result.stderr
