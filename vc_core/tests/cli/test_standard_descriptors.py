"""The standard descriptors of virtc: closed, full, or without a reader; and signals while it starts."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest
from commands import MOCK, virtc, virtc_process

import vc_core
from vc_core.cli import output
from vc_core.errors import BusyError, OutputError
from waiting import PATIENCE

VIRTC = str(Path(sys.executable).with_name("virtc"))

pytestmark = pytest.mark.slow


def run(words: str) -> subprocess.CompletedProcess[str]:
    """Run a line of the shell in which $V is virtc."""
    environment = {**os.environ, "V": VIRTC}
    return subprocess.run(["sh", "-c", words], capture_output=True, encoding="utf-8", timeout=60, env=environment)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_pod_is_created_whatever_standard_descriptor_is_closed(closed: str) -> None:
    done = run(f"$V pod create {' '.join(MOCK)} --id p1 {closed}")
    assert (done.stderr, done.returncode) == ("", 0)
    assert "p1" in virtc_process("pod", "list").stdout


def test_no_file_gets_the_number_of_a_closed_standard_descriptor() -> None:
    program = "import vc_core.cli.entry as e, os; e._open_standard_descriptors(); print(os.readlink('/proc/self/fd/0'))"
    done = run(f'exec {sys.executable} -c "{program}" <&- 2>&-')
    assert done.stdout == "/dev/null\n"


@pytest.mark.parametrize(
    "words", ["pod list", "pod list --json", "pod list --help", "--help", "--version", "completion bash"]
)
def test_output_that_cannot_be_written_is_an_error_in_one_sentence(words: str) -> None:
    done = run(f"$V {words} >/dev/full")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line == "virtc: standard output cannot be written: No space left on device"


@pytest.mark.parametrize(
    ("words", "reader_left"),
    [("pod create", False), ("pod run --id p2", True), ("pod run --rm", False), ("container create p1 --id c2", False)],
)
def test_what_a_command_has_made_does_not_outlive_its_failure_to_print_the_name(words: str, reader_left: bool) -> None:
    virtc("pod", "create", *MOCK, "--id", "p1")
    command = [VIRTC, *words.split(), *(() if words.startswith("container") else MOCK)]
    with open_pipe() if reader_left else Path("/dev/full").open("wb") as output:
        done = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 1
    assert done.stderr == b"" if reader_left else b"No space left on device" in done.stderr
    [pod] = vc_core.list_pods()
    assert (pod.id, [one.id for one in pod.containers]) == ("p1", ["1"])


def open_pipe() -> IO[bytes]:
    """Return the end of a pipe whose reader has left."""
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "wb")


def test_what_cannot_be_undone_is_named_with_the_output_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def undo() -> None:
        raise BusyError("it is busy")

    def fail(*_: object, **__: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("click.echo", fail)
    with pytest.raises(OutputError, match=r"^standard output cannot be written: .*, and pod p1 is left: it is busy$"):
        output.echo_made("p1", "pod p1", undo)


@pytest.mark.parametrize(("words", "code"), [("pod status no-such-pod", 1), ("pod status", 2)])
def test_the_exit_code_is_the_same_if_errors_cannot_be_written(words: str, code: int) -> None:
    assert run(f"$V {words} 2>/dev/full").returncode == code


def test_each_pod_is_tried_though_the_error_about_another_cannot_be_written() -> None:
    virtc("pod", "create", *MOCK, "--id", "p1")
    assert run("$V pod delete no-such-pod p1 2>/dev/full").returncode == 1
    assert virtc("pod", "list", "-q").stdout == ""


@pytest.mark.promise("T30")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("module", ["vc_core", "click"])  # the first that virtc imports, and one of the last
def test_a_signal_while_modules_are_imported_ends_virtc_without_a_word(
    module: str, signum: signal.Signals, tmp_path: Path
) -> None:
    waits = "open({fifo!r}, 'wb').close()\nwhile True:\n    time.sleep(0.01)\n"
    status = signalled_where(f"{module}.py", f"import time\n{waits}", signum, tmp_path)
    assert status in (-signum, 128 + signum)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_virtc_lets_it_clean_up_first(
    signum: signal.Signals, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def command(_: object) -> None:
        try:
            signal.raise_signal(signum)
        finally:
            (tmp_path / "clean").touch()

    monkeypatch.setattr("vc_core.cli.main.run", command)
    former = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        assert virtc().returncode == 128 + signum
    finally:
        signal.signal(signal.SIGHUP, former)
    assert (tmp_path / "clean").exists()


@pytest.mark.promise("T30")
def test_ctrl_c_while_the_interpreter_ends_prints_nothing(tmp_path: Path) -> None:
    waits = "    open({fifo!r}, 'wb').close()\n    while True:\n        time.sleep(0.01)\n"
    text = f"import atexit, time\ndef wait():\n{waits}atexit.register(wait)\n"
    assert signalled_where("sitecustomize.py", text, signal.SIGINT, tmp_path) == -signal.SIGINT


def signalled_where(name: str, text: str, signum: signal.Signals, directory: Path) -> int:
    """Run virtc with a module in the place of another, and send it a signal when that opens ``fifo`` for writing.

    Fails if virtc prints an error; returns its status, as of ``subprocess``.
    """
    fifo = directory / "waits"
    os.mkfifo(fifo)
    (directory / name).write_text(text.format(fifo=str(fifo)), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(directory)}
    # virtc ignores what its parent ignores, as nohup does.
    command = ["env", "--default-signal", VIRTC, "pod", "list"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment) as process:
        try:
            fifo.open("rb").close()
            process.send_signal(signum)
            _, errors = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert errors == b""
    return process.returncode
