"""The arguments that a command's streams accept."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from vc_core.client.stdio import Stdio
from vc_core.errors import ConfigError


@pytest.mark.parametrize("nothing", [None, subprocess.DEVNULL, b""])
def test_no_input_needs_no_descriptor(nothing: object) -> None:
    stdio = Stdio(nothing, subprocess.DEVNULL, subprocess.DEVNULL)  # type: ignore[arg-type] # parametrised
    assert stdio.passed == (False, False, False)
    assert stdio.fds == []


def test_a_null_device_means_none() -> None:
    with Path(os.devnull).open("r+b", buffering=0) as null:
        assert Stdio(null, null, null).passed == (False, False, False)


def test_pipes_and_files_pass_through_as_they_are(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with (tmp_path / "file").open("wb") as file:
        stdio = Stdio(reader, file, writer)
        assert stdio.fds == [reader, file.fileno(), writer]
        stdio.close()
    os.close(reader)  # still open: they are the caller's
    os.close(writer)


def test_a_terminal_is_passed_only_where_nothing_is_copied() -> None:
    master, slave = os.openpty()
    try:
        passing = Stdio(slave, slave, slave, pass_terminals=True)
        assert (passing.fds, passing.reading) == ([slave] * 3, [])
        copying = Stdio(slave, subprocess.DEVNULL, subprocess.DEVNULL)
        assert copying.reading == [slave]
        copying.close()
    finally:
        os.close(master)
        os.close(slave)


def test_what_a_text_file_holds_back_is_written_before_the_command_writes(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w", encoding="utf-8") as file:
        file.write("before")
        Stdio(None, file, file).close()
        assert (tmp_path / "file").read_text(encoding="utf-8") == "before"


@pytest.mark.parametrize("bad", ["text", 9999, object(), 1.5])
def test_what_is_no_stream_is_refused(bad: object) -> None:
    with pytest.raises(ConfigError, match="stdin is"):
        Stdio(bad, None, None)  # type: ignore[arg-type] # what is tested
    with pytest.raises(ConfigError, match="stdout is"):
        Stdio(None, bad, None)  # type: ignore[arg-type] # what is tested


def test_captured_output_is_read_to_its_end() -> None:
    stdio = Stdio(None, None, None)
    writer = os.dup(stdio.fds[0])
    stdio.sent()
    os.write(writer, b"one")
    stdio.pump(set(stdio.reading))
    os.close(writer)
    while stdio.outputs_open:
        stdio.pump(set(stdio.reading))
    assert stdio.stdout == b"one"


def test_bytes_are_fed_as_fast_as_they_are_taken() -> None:
    data = os.urandom(300_000)
    stdio = Stdio(data, subprocess.DEVNULL, subprocess.DEVNULL)
    reader, got = os.dup(stdio.fds[0]), b""
    stdio.sent()
    while len(got) < len(data):
        stdio.pump(set(stdio.writing))
        got += os.read(reader, 65536)
    assert got == data
    stdio.pump(set(stdio.writing))
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_a_command_that_takes_no_input_ends_the_feeding() -> None:
    stdio = Stdio(bytes(300_000), subprocess.DEVNULL, subprocess.DEVNULL)
    stdio.sent()
    stdio.pump(set(stdio.writing))
    assert stdio.writing == []
