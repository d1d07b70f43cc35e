"""The keys that detach a caller: nothing that is typed is lost or repeated, however it comes in pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vc_core.client.detach import DEFAULT_DETACH_KEYS, DetachKeys
from vc_core.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        (DEFAULT_DETACH_KEYS, b"\x10\x11"),
        ("a", b"a"),
        ("ctrl-@,ctrl-[", b"\x00\x1b"),
        ("ctrl-_,ctrl-A,~", b"\x1f\x01~"),
    ],
)
def test_keys_are_characters_and_those_with_ctrl(text: str, keys: bytes) -> None:
    found = DetachKeys.parse(text)
    assert found is not None
    assert (found.passed(b"x" + keys + b"y"), found.pressed) == (b"x", True)


def test_no_keys_never_detach() -> None:
    assert DetachKeys.parse("") is None


@pytest.mark.parametrize("text", [",", "ctrl-", "ctrl-1", "ab", "a,,b", "ä", " ", "ctrl-p, ctrl-q"])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"detach keys .* are not valid"):
        DetachKeys.parse(text)


@given(
    keys=st.text(alphabet="ab", min_size=1, max_size=4),
    pieces=st.lists(st.text(alphabet="abc", max_size=6), max_size=9),
)
def test_all_passes_but_the_keys_and_what_may_begin_them(keys: str, pieces: list[str]) -> None:
    found = DetachKeys.parse(",".join(keys))
    assert found is not None
    typed = "".join(pieces)
    passed = b"".join(found.passed(piece.encode()) for piece in pieces).decode()
    assert found.pressed == (keys in typed)
    if found.pressed:
        assert passed == typed[: typed.index(keys)]
    else:
        assert typed.startswith(passed)
        assert keys.startswith(typed[len(passed) :])
