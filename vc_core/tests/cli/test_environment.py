"""Variables of a command: options and files, as docker reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from vc_core.cli.environment import variables
from vc_core.config.container import COMMAND_BYTES_MAX
from vc_core.errors import ConfigError


def texts(files: list[str], options: list[str]) -> list[str]:
    return [str(one) for one in variables(files, options)]


def test_a_name_alone_is_the_variable_of_the_caller_if_it_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", "a=b c")
    monkeypatch.delenv("NOBODYS", raising=False)
    assert texts([], ["MINE", "NOBODYS", "EMPTY="]) == ["MINE=a=b c", "EMPTY="]


def test_the_last_one_of_a_name_counts_and_an_option_over_a_file(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text(f"A={name}\nB={name}\nC={name}\n", encoding="utf-8")
    assert texts([str(tmp_path / "a"), str(tmp_path / "b")], ["B=1", "B=2"]) == ["A=b", "B=2", "C=b"]


def test_a_file_has_a_variable_on_each_line_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", "here")
    file = tmp_path / "env"
    file.write_bytes(b"\xef\xbb\xbf# a comment\n\n  A=b c \nQ='quoted' # not a comment\r\nMINE\nNOBODYS\n\tE=")
    assert texts([str(file)], []) == ["A=b c ", "Q='quoted' # not a comment", "MINE=here", "E="]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"A=1\n=x\n", ":2: environment variable name '' is empty"),
        (b"A B=1\n", ":1: the name of the variable 'A B' has blanks"),
        (b"A=\xff\n", "is not UTF-8 at byte 2"),
        (b"A=" + bytes(COMMAND_BYTES_MAX), "is too long: 131072 bytes at most"),
    ],
)
def test_a_file_that_is_not_valid_is_named_with_its_line(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "env").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        variables([str(tmp_path / "env")], [])
    assert str(tmp_path / "env") in str(caught.value)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("option", ["", "=x"])
def test_an_option_without_a_name_is_refused(option: str) -> None:
    with pytest.raises(ConfigError):
        variables([], [option])


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--env-file '.*/nope' cannot be read: No such file"):
        variables([str(tmp_path / "nope")], [])
