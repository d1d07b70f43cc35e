"""docs/session.svg shows what its commands print now."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest

from scripts import load

ROOT = Path(__file__).parents[2]
RECORDER = load(ROOT / "tools/record_session.py")
DRAWING = (ROOT / "docs/session.svg").read_text(encoding="utf-8")


def without_host(lines: list[str]) -> list[str]:
    """Return lines without what differs from run to run: blanks, the notice of emulation, versions, numbers.

    A column of a table is as wide as its numbers, so that neither the number of digits nor that of blanks counts.
    """
    joined = re.sub(r"virtc: notice: .*?\n(?=Created)", "", "\n".join(lines), flags=re.DOTALL)
    numbered = re.sub(r"\d+", "0", re.sub(r"^Linux .*", "Linux", joined, flags=re.MULTILINE))
    return [" ".join(line.split()) for line in numbered.splitlines() if line]


@pytest.mark.vm
@pytest.mark.root
@pytest.mark.needs("busybox")
def test_the_drawing_shows_what_the_session_prints_now() -> None:
    drawn = [unescape(re.sub(r"<[^>]*>", "", line)) for line in re.findall(r"<text .*</text>", DRAWING)]
    assert without_host(drawn) == without_host(RECORDER.text(RECORDER.run()))


def test_a_pod_of_two_digits_of_seconds_prints_the_same_session() -> None:
    young, old = "web  running  0/1    9s   qemu", "web  running  0/1    10s  qemu"
    assert without_host([young]) == without_host([old])


def test_the_drawing_is_small_and_refers_to_no_other_file() -> None:
    assert len(DRAWING.encode()) < 100 * 1024
    assert re.findall(r"href|url\(|@import|<script|<image", DRAWING) == []


@pytest.mark.needs("busybox")
def test_a_command_that_fails_ends_a_recording_with_what_the_terminal_shows() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)\$ echo one\none\n\$ false\nexit code 1; "):
        RECORDER.run(["echo one", "false", "echo two"])
