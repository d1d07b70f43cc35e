"""How virtc looks: tables, formats, colours, help, and what it proposes for what is misspelt."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import click
import pytest

import vc_core as vc
from vc_core.cli import tables
from vc_core.cli.main import virtc as command

VIRTC = str(Path(sys.executable).with_name("virtc"))


def virtc(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([VIRTC, *arguments], capture_output=True, encoding="utf-8")


def on_terminal(*arguments: str, columns: int = 40, variables: Mapping[str, str] | None = None) -> str:
    """Return what virtc writes to a terminal of this width."""
    controller, terminal = pty.openpty()
    usual = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS")}
    environment = {**usual, "TERM": "xterm", **(variables or {})}
    import termios

    termios.tcsetwinsize(terminal, (24, columns))
    with subprocess.Popen(
        [VIRTC, *arguments], stdin=terminal, stdout=terminal, stderr=terminal, env=environment
    ) as one:
        os.close(terminal)
        written = b""
        try:
            while data := os.read(controller, 65536):
                written += data
        except OSError:  # the other end is closed
            pass
        one.wait()
    os.close(controller)
    return written.decode().replace("\r\n", "\n")


@pytest.fixture
def pod(mock_config: Callable[..., vc.PodConfig]) -> vc.Pod:
    return vc.create_pod(mock_config("a-pod-with-a-long-name"))


# Tables


def test_a_table_on_a_terminal_fits_it_and_keeps_the_names() -> None:
    lines = tables.table(("NAME", "WHAT", "OTHER"), [("a" * 20, "b" * 50, "c" * 30)], 60, colours=False)
    assert len(lines[1]) == 60
    assert lines[1].startswith("a" * 20 + "  b")
    assert lines[1].count("…") == 2


def test_the_names_are_cut_when_nothing_else_can_be() -> None:
    assert tables.table(("N", "W"), [("a" * 20, "b" * 20)], 20, colours=False)[1] == "a" * 10 + "…  " + "bbbbbb…"


def test_a_table_elsewhere_is_whole() -> None:
    assert tables.table(("N", "W"), [("a" * 200, "b")], None, colours=False)[1] == "a" * 200 + "  b"


def test_characters_of_two_columns_count_as_two() -> None:
    assert tables.table(("N", "W"), [("漢字", "b"), ("abcd", "b")], None, colours=False)[1:] == ["漢字  b", "abcd  b"]


def test_a_list_on_a_terminal_fits_it_and_has_colours(pod: vc.Pod) -> None:
    pod.start()
    try:
        lines = on_terminal("pod", "list", columns=66).splitlines()
        assert "\x1b[32mrunning\x1b[0m" in lines[1]
        bare = [re.sub("\x1b\\[[0-9]*m", "", line) for line in lines]
        assert all(len(line) <= 66 for line in bare)
        assert "a-pod-with-a-long-name" in bare[1]
    finally:
        pod.delete(force=True)


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_terminal_whose_user_wants_none_gets_no_colours(variables: dict[str, str], pod: vc.Pod) -> None:
    assert "\x1b" not in on_terminal("pod", "list", variables=variables)


def test_a_pipe_gets_a_whole_table_without_colours(pod: vc.Pod) -> None:
    printed = virtc("pod", "list").stdout
    assert "\x1b" not in printed
    assert "…" not in printed


def test_a_guest_s_string_cannot_steer_the_terminal() -> None:
    [_, line] = tables.table(("N",), [("\x1b[31mred\u202e",)], None, colours=True)
    assert line == "\\x1b[31mred\\u202e"


# Formats


def test_a_format_prints_a_line_for_each_with_fields_of_the_json(pod: vc.Pod) -> None:
    done = virtc("pod", "list", "--format", r"{id}\t{state:>8} {containers[0][id]} {reason}{forwards}")
    assert done.stdout == "a-pod-with-a-long-name\t   ready c1 []\n"


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ("{idd}", "there is no field 'idd'"),
        ("{id.__class__}", "has a dot"),
        ("{0}", "the braces must hold the name of a field"),
        ("{}", "the braces must hold the name of a field"),
        ("{id", "expected '}'"),
        ("{id:d}", "Unknown format code 'd'"),
        ("{containers[x]}", "indices must be integers"),
        ("{containers[7]}", "there is no part 'containers[7]'"),
        ("{id:>10000}", "'>10000' is wider than 9999 characters"),
        ("{{.ID}}", "it has no field"),
        ("json", "it has no field; --json prints JSON"),
    ],
)
def test_a_format_that_does_not_fit_is_one_sentence_with_the_fields(form: str, reason: str, pod: vc.Pod) -> None:
    done = virtc("pod", "list", "--format", form)
    assert done.returncode == 2
    assert reason in done.stderr
    assert "id, state, reason" in done.stderr
    assert "Traceback" not in done.stderr


def test_json_format_and_quiet_exclude_each_other() -> None:
    done = virtc("pod", "list", "-q", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--json, --format and --quiet exclude each other" in done.stderr


def commands(
    group: click.Group, context: click.Context, *words: str
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield all commands below a group with their words."""
    for name in group.list_commands(context):
        one = group.get_command(context, name)
        assert one is not None
        if isinstance(one, click.Group):
            yield from commands(one, context, *words, name)
        else:
            yield (*words, name), one


COMMANDS = dict(commands(command, click.Context(command)))
LISTS = [words for words in COMMANDS if words[-1] == "list"] + [("drivers",), ("repair",), ("config", "show")]


@pytest.mark.parametrize("words", LISTS, ids=" ".join)
def test_every_command_that_lists_has_json_format_and_quiet(words: tuple[str, ...]) -> None:
    options = {option for one in COMMANDS[words].params for option in one.opts}
    assert {"--json", "--format", "--quiet"} <= options


def test_quiet_config_show_prints_names_and_json_values() -> None:
    names = virtc("config", "show", "-q").stdout.splitlines()
    assert names == [one["name"] for one in json.loads(virtc("config", "show", "--json").stdout)]


# Help


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_help_of_every_command_has_an_example_of_it(words: tuple[str, ...]) -> None:
    one = COMMANDS[words]
    assert re.search(rf"Example: .*virtc {' '.join(words)}\b", one.help or ""), one.help


@pytest.mark.parametrize("words", [("pod", "run"), ("pod", "create"), ("container", "create")], ids=" ".join)
def test_the_help_of_commands_with_many_options_has_groups(words: tuple[str, ...]) -> None:
    text = virtc(*words, "--help").stdout
    titles = re.findall(r"^(\w[\w ]*):$", text, flags=re.MULTILINE)
    assert {"Container", "Options"} <= set(titles)
    assert len(titles) == len(set(titles)) >= 3
    listed = [line for line in text.splitlines() if line.startswith("  -")]
    for one in COMMANDS[words].params:
        if isinstance(one, click.Option):
            assert any(re.search(rf"(^  |[ ,/]){one.opts[-1]}( |,|$)", line) for line in listed), one.opts


# What was meant

_PROPOSES = pytest.mark.skipif(
    not hasattr(click.exceptions, "NoSuchCommand"), reason="only click 8.4 and newer ones propose commands"
)


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        pytest.param(("pod", "lst"), "list", marks=_PROPOSES),
        pytest.param(("pods", "list"), "pod", marks=_PROPOSES),
        (("pod", "list", "--jsn"), "--json"),
        (("pod", "status", "a-pod-with-long-name"), "a-pod-with-a-long-name"),
        (("drivers", "qmu"), "qemu"),
        (("pod", "create", "--hypervisor", "mok", "--", "ls"), "mock"),
    ],
)
def test_what_is_misspelt_is_answered_with_what_was_meant(arguments: tuple[str, ...], meant: str, pod: vc.Pod) -> None:
    done = virtc(*arguments)
    assert done.returncode in (1, 2)
    assert re.search(rf"[Dd]id you mean '?{meant}'?\?|\(Possible options: .*{meant}", done.stderr), done.stderr
