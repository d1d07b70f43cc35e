"""A caller that is no engine: a shell on a terminal, or a program that has closed its standard descriptors."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from terminals import typed

Make = Callable[..., Path]

#: Seconds for a verb.
_TIMEOUT = 60.0


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the command line of the runtime, without a verb."""
    monkeypatch.setenv("VIRTCONTAINERS_ROOT", str(tmp_path / "vc"))
    monkeypatch.setenv("VIRTCONTAINERS_TEMPLATES", "existing")
    return [sys.executable, "-m", "vc_runtime", "--root", str(tmp_path / "root")]


@pytest.fixture
def container(command: list[str], bundle: Make) -> Iterator[str]:
    """Run a container that sleeps; return its id."""
    busybox = shutil.which("busybox")
    assert busybox is not None
    made = bundle(process={"args": ["/bin/busybox", "sleep", "1000"]})
    shutil.copy(busybox, made / "rootfs/bin/busybox")
    try:
        ran = [*command, "run", "--detach", "--bundle", str(made), "c1"]
        subprocess.run(ran, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True, timeout=_TIMEOUT)
        yield "c1"
    finally:
        subprocess.run([*command, "delete", "--force", "c1"], check=True, timeout=_TIMEOUT)


@pytest.mark.vm
@pytest.mark.root
@pytest.mark.slow
@pytest.mark.needs("mount namespaces", "busybox")
def test_a_command_runs_whatever_the_callers_streams_are(command: list[str], container: str) -> None:
    script = 'read line && echo "got $line"; exit 7'
    code, shown = typed(
        [*command, "exec", container, "/bin/busybox", "sh", "-c", script], os.environ, b"it\n", (24, 80)
    )
    assert (code, b"got it" in shown) == (7, True), shown

    for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        line = f'"$@" exec {container} /bin/busybox sh -c "cat; exit 7" {closed}'
        done = subprocess.run(["sh", "-c", line, "-", *command], stdin=subprocess.DEVNULL, timeout=_TIMEOUT)
        assert done.returncode == 7, closed


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_verb_works_without_standard_descriptors(closed: str, command: list[str]) -> None:
    done = subprocess.run(["sh", "-c", f'"$@" list {closed}', "-", *command], capture_output=True, timeout=_TIMEOUT)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("words", "buffered"),
    [
        ("features", True),
        ("features", False),
        ("--help", True),
        ("--help", False),
        ("create --help", True),
        ("--version", True),
    ],
)
def test_output_that_cannot_be_written_is_an_error_in_one_sentence(
    words: str, buffered: bool, command: list[str]
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    if not buffered:
        environment["PYTHONUNBUFFERED"] = "1"
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([*command, *words.split()], stdout=full, stderr=subprocess.PIPE, env=environment)
    assert done.returncode == 1
    assert done.stderr == b"vc-runtime: the standard output cannot be written: No space left on device\n"
