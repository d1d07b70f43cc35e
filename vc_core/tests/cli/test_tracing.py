"""``--trace`` and ``--timeline``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vc_core import trace
from vc_core.cli.timeline import Span, drawn, read

RUN = ["pod", "run", "--hypervisor", "mock", "--agent", "noop", "--quiet"]


def virtc(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("virtc")), *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", env=os.environ)


def test_a_trace_has_each_span_of_the_command_within_that_of_the_command(tmp_path: Path) -> None:
    done = virtc(*RUN, "--trace", str(tmp_path / "trace"))
    assert (done.returncode, done.stderr) == (0, "")
    spans = {span.name: span for span in read(tmp_path / "trace")}
    whole, part = spans["the command"], spans["mock: prepare"]
    assert whole.process == part.process == "virtc"
    assert whole.begin <= part.begin
    assert part.begin + part.length <= whole.begin + whole.length


def test_a_trace_is_json_but_for_its_end(tmp_path: Path) -> None:
    virtc(*RUN, "--trace", str(tmp_path / "trace"))
    events = json.loads((tmp_path / "trace").read_text(encoding="utf-8").rstrip(",\n") + "]")
    assert {event["ph"] for event in events} == {"M", "X"}


def test_a_timeline_is_drawn_on_standard_error_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    done = virtc(*RUN, "--timeline")
    assert len(done.stdout.splitlines()) == 1
    assert "the command" in done.stderr
    assert "█" in done.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "root"]


def test_a_trace_that_cannot_be_written_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    done = virtc(*RUN, "--trace", str(tmp_path / "missing/trace"))
    assert done.returncode == 1
    assert done.stderr == (
        f"virtc: the trace '{tmp_path}/missing/trace' cannot be written: No such file or directory; give another file\n"
    )
    assert virtc("pod", "list", "--quiet").stdout == ""


def test_a_trace_to_anything_but_a_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/null")):
        done = virtc(*RUN, "--timeline", "--trace", str(path))
        assert done.returncode == 1
        assert done.stderr.startswith(f"virtc: the trace '{path}' cannot be written: it is not a regular file")
    assert virtc("pod", "list", "--quiet").stdout == ""


def test_a_trace_behind_a_link_is_written_by_supervisors_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(trace.VARIABLE, raising=False)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "target")
    trace.create(link)
    trace.stop()
    assert os.environ[trace.VARIABLE] == str(tmp_path / "target")


def test_lines_that_a_full_disk_cut_off_are_not_drawn(tmp_path: Path) -> None:
    whole = '{"name": "kept", "ph": "X", "ts": 0, "dur": 5000, "pid": 7, "tid": 7}'
    (tmp_path / "trace").write_text(f'[\n{{"name": "proc{whole},\n{whole},\n{whole[:20]}', encoding="utf-8")
    assert read(tmp_path / "trace") == [Span("?", "kept", 0, 5)]
    assert len(drawn([], 80)) == 1


def test_bars_lie_where_their_spans_lie() -> None:
    lines = drawn([Span("a", "whole", 0, 100), Span("b of c", "half", 50, 50), Span("b", "short", 60, 0.5)], 86)
    assert [line.split()[:2] for line in lines[1:]] == [["a", "whole"], ["b", "half"]]
    assert lines[1].endswith("  " + "█" * 20)
    assert lines[2].endswith("  " + " " * 10 + "█" * 10)
