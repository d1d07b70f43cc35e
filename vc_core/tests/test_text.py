"""No text that a guest or a stranger chose can steer a terminal, forge a line, or grow without a bound."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vc_core.cli import output
from vc_core.driver import VMExit
from vc_core.errors import TEXT_MAX, AgentError, error_from_wire, sentence
from vc_core.supervisor.process import _formatter
from vc_core.text import printable

#: A title, a line break, a colour of the 8-bit kind (C1), text from right to left, and a byte that is not UTF-8.
HOSTILE = "a\x1b]0;owned\x07\r\nb\x9b31m\u202ec\u2066\u200f\x00\x7f\udcff"

anything = st.text(st.characters(exclude_categories=()), max_size=300)


@pytest.mark.promise("T24")
@given(anything)
def test_printable_text_has_only_characters_that_a_terminal_shows(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown
    shown.encode()


@given(anything)
def test_plain_text_of_any_language_stays_as_it_is(text: str) -> None:
    plain = "".join(char for char in text if char.isalnum() or char == " ")
    assert printable(plain) == plain


@pytest.mark.parametrize(
    "text_of",
    [
        lambda text: str(AgentError(text)),
        lambda text: AgentError(text).to_wire()["message"],
        lambda text: str(error_from_wire({"type": "AgentError", "message": text, "details": {}})),
        lambda text: VMExit(False, text).reason,
        sentence,
    ],
    ids=["error", "error sent by the supervisor", "error received from it", "end of the VM", "reason in a record"],
)
def test_what_a_guest_says_is_cleaned_and_has_a_bound(text_of: Callable[[str], str]) -> None:
    text = text_of(HOSTILE)
    assert text.isprintable()
    assert not set("\u202e\u2066\u200f") & set(text)
    assert text.startswith(r"a\x1b]0;owned\x07\r\nb\x9b31m")
    for flood in ("x" * 1_000_000, "\x1b" * 1_000_000):
        assert len(text_of(flood)) < TEXT_MAX + 100


def test_json_escapes_what_could_steer_a_terminal_and_means_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"reason": HOSTILE.replace("\udcff", "") + "\U000e0001é"}
    output.print_json(value)
    text = capsys.readouterr().out
    assert all(line.isprintable() for line in text.splitlines())
    assert not set("\u202e\u2066\u200f\x9b") & set(text)
    assert "é" in text
    assert json.loads(text) == value


@pytest.mark.promise("T24")
def test_a_line_of_the_supervisors_log_is_one_line() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_formatter())
    handler.handle(
        logging.makeLogRecord({"msg": "pod %s failed", "args": (HOSTILE,), "levelname": "INFO", "name": "n"})
    )
    [line] = stream.getvalue().splitlines()
    assert line.isprintable()
    assert r"\x1b]0;owned\x07\r\nb" in line
