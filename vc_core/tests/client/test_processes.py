"""The caller's ends of a process' streams: what is read is what was written, however it comes and is asked for."""

from __future__ import annotations

import os
import subprocess
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vc_core.client.interpreters import run_blocking
from vc_core.client.processes import Reader, Writer
from vc_core.config.defaults import PIPE


@given(
    data=st.lists(st.sampled_from([b"a", b"bc", b"\n"]), max_size=20).map(b"".join),
    sizes=st.lists(st.tuples(st.booleans(), st.integers(-1, 5)), max_size=30),
)
def test_reads_and_lines_of_any_size_give_all_bytes_in_order(data: bytes, sizes: list[tuple[bool, int]]) -> None:
    fd, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    reader = Reader(fd)
    found = b""
    for by_line, size in sizes:
        part = run_blocking(reader.readline(size) if by_line else reader.read(size))
        assert size < 0 or len(part) <= size
        assert not by_line or b"\n" not in part[:-1]
        found += part
    found += run_blocking(reader.read())
    reader.close()
    assert found == data


def test_the_default_of_streams_is_that_of_subprocess() -> None:
    assert PIPE == subprocess.PIPE


def test_a_writer_waits_for_room_and_ends_the_stream() -> None:
    fd, end = os.pipe()
    reader, writer = Reader(fd), Writer(end)
    found: list[bytes] = []
    thread = threading.Thread(target=lambda: found.append(run_blocking(reader.read())))
    thread.start()
    run_blocking(writer.write(bytes(1_000_000)))
    writer.close()
    thread.join()
    assert found == [bytes(1_000_000)]
    reader.close()
    with pytest.raises(ValueError, match="closed file"):
        run_blocking(writer.write(b"x"))


def test_a_writer_without_a_reader_is_a_broken_pipe() -> None:
    fd, end = os.pipe()
    os.close(fd)
    writer = Writer(end)
    with pytest.raises(BrokenPipeError):
        run_blocking(writer.write(b"x"))
    writer.close()
