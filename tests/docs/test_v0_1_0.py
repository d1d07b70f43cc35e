"""The page that maps the names of v0.1.0 to today's is complete, and every one of today's exists."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest

from vc_core import Container, Pod

ROOT = Path(__file__).parents[2]
CODE = re.compile(r"`([^`]+)`")
OURS = re.compile(r"vc_|virtc\b")

PAGE = (ROOT / "docs/reference/v0.1.0.md").read_text(encoding="utf-8")
NAMES = Path(__file__).with_name("v0.1.0-names.txt").read_text(encoding="utf-8").splitlines()
#: The cells of each row that begins with a name in code: theirs, ours, what differs.
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| `")]
#: Their attributes are made by ``__init__``, so the classes do not show them.
INSTANCES = {Pod: Pod("p"), Container: Container("p", "c")}


def exists(name: str) -> bool:
    """Return whether there is such a command, option (``virtc pod run --bundle``) or Python name (``vc_core.Cmd``)."""
    return _in_command(name.split()) if name.split()[0] == "virtc" else _in_python(name.split("."))


def _in_command(words: list[str]) -> bool:
    command: click.Command | None = import_module("vc_core.cli.main").virtc
    context = click.Context(command) if command else None
    for word in words[1:]:
        if command is None or context is None:
            return False
        if word.startswith("-"):
            return any(word in (*one.opts, *one.secondary_opts) for one in command.get_params(context))
        command = command.get_command(context, word) if isinstance(command, click.Group) else None
        context = click.Context(command, parent=context) if command else None
    return command is not None


def _in_python(parts: list[str]) -> bool:
    found: Any = import_module(parts[0])
    for number, part in enumerate(parts[1:], 2):
        found = INSTANCES.get(found, found) if isinstance(found, type) else found
        try:
            found = getattr(found, part)
        except AttributeError:
            try:
                found = import_module(".".join(parts[:number]))
            except ModuleNotFoundError:
                return False
    return True


def test_every_name_of_v0_1_0_has_one_row_and_no_row_has_another_name() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert sorted(name for theirs, *_ in ROWS for name in CODE.findall(theirs)) == sorted(NAMES)


def test_every_row_gives_the_new_name_and_the_differences() -> None:
    for row in ROWS:
        _, ours, differs = row
        assert differs, row
        names = CODE.findall(ours)
        assert ours in ("none", "not yet") or names, row
        assert all(OURS.match(name) for name in names), row


def test_every_new_name_exists() -> None:
    names = {name for name in CODE.findall(PAGE) if OURS.match(name)}
    assert {"vc_core.Cmd.args", "virtc pod run --bundle"} <= names
    assert not sorted(name for name in names if not exists(name))


@pytest.mark.parametrize(
    "name",
    [
        "vc_core.nothing",
        "vc_core.Cmd.nothing",
        "vc_core.Pod.nothing",
        "virtc nothing",
        "virtc pod run nothing",
        "virtc pod run --nothing",
        "virtc --nothing",
    ],
)
def test_a_name_that_does_not_exist_is_noticed(name: str) -> None:
    assert not exists(name)
