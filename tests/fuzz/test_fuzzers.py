"""Every fuzzer executes its corpus, in which each input that was ever found is, and goes on for a moment.

`./dev fuzz` runs them longer.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scripts import load
from vc_core.testing.slowness import scaled

pytestmark = [pytest.mark.slow, pytest.mark.needs("gcc")]

TOP = Path(__file__).parents[2]
tool = load(TOP / "tools/fuzz.py")
FUZZERS = {fuzzer.name: fuzzer for fuzzer in tool.FUZZERS}

#: Seconds of each fuzzer, beside its corpus.
MOMENT = 1.0


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where fuzzers are compiled, each once, and what they find is saved."""
    return tmp_path_factory.mktemp("fuzzers")


@pytest.mark.promise("T29")
@pytest.mark.parametrize("name", FUZZERS)
def test_nothing_that_comes_from_outside_breaks_the_program(name: str, work: Path) -> None:
    executions, seconds = 0, MOMENT
    while executions <= len(FUZZERS[name].corpus):  # a busy host executes no more than that in a moment
        assert seconds <= scaled(60), "nothing was executed but the corpus"
        result = tool.run(FUZZERS[name], seconds, work)
        if result.sentence.startswith("cannot run"):
            pytest.skip(result.sentence)
        assert not result.found, result.sentence + "".join(
            path.read_text(encoding="utf-8") for path in work.glob("found/*.txt")
        )
        executions, seconds = int(result.sentence.split()[0]), 4 * seconds


def test_the_whole_agent_changes_nothing_of_the_host_on_which_it_is_fuzzed(tmp_path: Path, work: Path) -> None:
    """Although it sets kernel parameters and its host name, kills all processes, and powers off."""
    words = [*FUZZERS["agent"].command(work), "0", "0", str(tmp_path / "found")]
    watched = [Path("/proc/sys/kernel") / name for name in ("core_pattern", "hostname", "panic", "randomize_va_space")]
    bystander = subprocess.Popen(["sleep", "1000"])
    try:
        before = [path.read_text(encoding="utf-8") for path in watched]
        done = subprocess.run([*words, tool.GUEST / "corpus/agent/harmful"], capture_output=True, encoding="utf-8")
        if done.returncode == tool.CANNOT_RUN:
            pytest.skip(f"cannot run: {done.stderr.strip()}")
        assert (done.returncode, done.stdout) == (0, "1 executions, 1 inputs kept\n")
        assert [path.read_text(encoding="utf-8") for path in watched] == before
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_an_error_is_found_and_the_input_is_kept_that_repeats_it(tmp_path: Path) -> None:
    program, found = tmp_path / "fuzz", tmp_path / "found"
    build = tool.GUEST / "build"
    subprocess.run([build, "json", program, "-DPLANTED_ERROR=1"], check=True)
    words = [program, "20", "1", found, *FUZZERS["json"].corpus]
    first = subprocess.run(words, capture_output=True, encoding="utf-8", timeout=300)
    assert first.returncode != 0
    assert "heap-buffer-overflow" in first.stderr
    again = subprocess.run([program, "0", "0", tmp_path / "other", found], capture_output=True, encoding="utf-8")
    assert "heap-buffer-overflow" in again.stderr


def test_an_exception_of_the_host_s_programs_is_found_too(tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text(
        f"import sys; sys.path.insert(0, {str(tool.HOST)!r})\n"
        "from fuzzing import fuzz\n"
        "fuzz([b'planted'], lambda data: 1 / (b'planted' not in data))\n",
        encoding="utf-8",
    )
    found = tmp_path / "found"
    words = [sys.executable, str(planted), "20", "1", str(found)]
    assert "ZeroDivisionError" in subprocess.run(words, capture_output=True, encoding="utf-8", timeout=300).stderr
    assert b"planted" in found.read_bytes()


@pytest.mark.parametrize(("text", "seconds"), [("60", 60), ("90s", 90), ("10m", 600), ("2h", 7200)])
def test_a_time_has_a_unit_or_is_in_seconds(text: str, seconds: int) -> None:
    assert tool.seconds_of(text) == seconds


@pytest.mark.parametrize("arguments", [[], ["soon"], ["-1"], ["5", "nothing"]])
def test_a_wrong_argument_is_refused_with_a_sentence(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert tool.main(arguments) == 2
    assert capsys.readouterr().err.startswith("./dev fuzz: ")
