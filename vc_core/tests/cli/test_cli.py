"""The command virtc: what it prints, where, and its exit codes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from commands import MOCK, virtc, virtc_process

import vc_core


def test_create_prints_the_pod_s_id() -> None:
    done = virtc_process("pod", "create", *MOCK, "--id", "p1")
    assert (done.stdout, done.stderr, done.returncode) == ("Created pod p1\n", "", 0)


@pytest.mark.slow
def test_run_prints_the_pod_s_id() -> None:
    assert virtc_process("pod", "run", *MOCK, "--id", "p1").stdout == "Created pod p1\n"
    assert virtc_process("pod", "delete", "--force", "p1").returncode == 0


def test_tables_are_padded_with_spaces_and_have_no_trailing_blanks() -> None:
    long_id = "p" * 64
    for pod_id in ("a", long_id):
        virtc("pod", "create", *MOCK, "--id", pod_id)
    assert re.sub("[0-9]+s ", "0s ", virtc("pod", "list").stdout) == (
        f"{'POD ID':64}  STATE  READY  AGE  HYPERVISOR  AGENT  PORTS\n"
        f"{'a':64}  ready  0/1    0s   mock        noop   -\n"
        f"{long_id}  ready  0/1    0s   mock        noop   -\n"
    )


def test_status_shows_the_pod_and_its_container() -> None:
    virtc("pod", "create", *MOCK, "--id", "p1")
    assert re.sub("[0-9]+s ", "0s ", virtc("pod", "status", "p1").stdout) == (
        "POD ID  STATE  READY  AGE  HYPERVISOR  AGENT  PORTS\n"
        "p1      ready  0/1    0s   mock        noop   -\n\n"
        "CONTAINER ID  STATE\n"
        "1             ready\n"
    )


def test_json_is_an_object_for_status_and_an_array_for_list() -> None:
    virtc("pod", "create", *MOCK, "--id", "p1")
    one, all_pods = (json.loads(virtc("pod", *words, "--json").stdout) for words in (("status", "p1"), ("list",)))
    assert one["id"] == "p1"
    assert all_pods == [one]


def test_ids_may_be_options_as_in_v0_1_0() -> None:
    virtc("pod", "create", *MOCK, "--id", "p1")
    for words in (("start",), ("stop",), ("delete",)):
        done = virtc("pod", *words, "--id", "p1")
        assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


@pytest.mark.slow
def test_enter_exits_as_the_command_does_and_prints_nothing_on_stdout() -> None:
    virtc_process("pod", "run", *MOCK, "--id", "p1")
    for words in (("p1", "1", "--", "true"), ("--pod-id", "p1", "--id", "1", "--cmd", "true")):
        done = virtc_process("container", "enter", *words)
        assert (done.stdout, done.returncode) == ("", 0)
    virtc_process("pod", "delete", "--force", "p1")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("pod", "status", "nope"), 1, "no pod has the id 'nope'"),
        (("pod", "start", "nope"), 1, "no pod has the id 'nope'"),
        (("pod", "stop", "nope"), 1, "no pod has the id 'nope'"),
        (("pod", "delete", "nope"), 1, "no pod has the id 'nope'"),
        (("pod", "delete", "--force", "nope"), 1, "no pod has the id 'nope'"),
        (("container", "enter", "nope", "1", "--", "ls"), 125, "no pod has the id 'nope'"),
        (("pod", "create", *MOCK, "--id", "a/b"), 1, "'a/b' is not valid"),
        (("pod", "create", "--hypervisor", "nope"), 1, "nope"),
        (("pod", "create", *MOCK, "--hypervisor-option", "colour=red"), 1, "colour"),
        (("pod", "run", "-i", "--hypervisor", "nope"), 125, "nope"),
        (("pod", "create", "--bundle", "/does/not/exist"), 1, "/does/not/exist"),
        (("pod", "create"), 1, "rootfs of container '1' is not given"),
        (("pod", "create", *MOCK, "--kernel", "/boot/x"), 1, "image_path is empty"),
    ],
)
def test_a_failure_is_one_sentence_on_stderr_and_an_exit_code(words: tuple[str, ...], code: int, message: str) -> None:
    done = virtc(*words)
    assert done.returncode == code
    assert done.stdout == ""
    assert message in done.stderr
    assert done.stderr.startswith("virtc: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("size", "mib"), [("300", 300), ("512m", 512), ("512M", 512), ("2g", 2048), ("3072k", 3), ("0", 0)]
)
def test_a_size_is_given_in_mib_or_as_docker_takes_it(size: str, mib: int) -> None:
    options = (option for name in ("memory", "memory-limit", "overlay-size") for option in (f"--{name}", size))
    assert virtc("pod", "create", *MOCK, "--id", "p1", *options).stderr == ""
    config = vc_core.inspect_pod("p1")
    [made] = config.containers
    assert (config.vm_config.memory, made.memory, made.overlay_size) == (mib, mib, mib)


def test_docker_s_option_for_all_pods_is_taken() -> None:
    virtc("pod", "create", *MOCK, "--id", "p1")
    assert virtc("pod", "list", "-aq").stdout == virtc("pod", "list", "--all", "--quiet").stdout == "p1\n"


@pytest.mark.parametrize(
    "words",
    [
        ("pod", "stop"),
        ("pod", "frobnicate"),
        ("pod", "create", "--memory", "much"),
        ("pod", "create", "--memory", "-1"),
        ("pod", "create", "--volume", "tag"),
        ("pod", "create", "--init-cmd", "echo 'open"),
        ("pod", "create", "--init-cmd", "a", "--", "b"),
        ("pod", "status", "a", "--id", "b"),
        ("container", "create", "a"),
        ("guest", "remove"),
        ("guest", "remove", "x", "--all"),
        ("completion", "tcsh"),
    ],
)
def test_wrong_usage_is_exit_code_2(words: tuple[str, ...]) -> None:
    done = virtc(*words)
    assert done.returncode == 2
    assert "Usage: virtc" in done.stderr


@pytest.mark.parametrize("words", [("container", "enter"), ("pod", "enter", "a", "--user")])
def test_wrong_usage_where_a_command_s_own_exit_code_is_expected_is_exit_code_125(words: tuple[str, ...]) -> None:
    done = virtc(*words)
    assert done.returncode == 125
    assert "Error: " in done.stderr


def test_containers_are_created_started_stopped_and_deleted() -> None:
    virtc("pod", "run", *MOCK, "--id", "p1")
    create = virtc("container", "create", "p1", "--id", "c2", "--", "sleep", "1")
    assert (create.stdout, create.stderr, create.returncode) == ("Created container c2\n", "", 0)
    outputs = [virtc("container", word, "--pod-id", "p1", "--id", "c2").stdout for word in ("start", "stop", "delete")]
    assert outputs == ["Container c2 started\n", "Container c2 stopped\n", "Container c2 deleted\n"]
    virtc("pod", "stop", "p1")


def test_a_container_s_status_is_a_table_or_an_object() -> None:
    virtc("pod", "create", *MOCK, "--id", "p1")
    assert virtc("container", "status", "p1", "1").stdout == "CONTAINER ID  STATE\n1             ready\n"
    assert json.loads(virtc("container", "status", "p1", "1", "--json").stdout)["state"] == "ready"


def test_wait_prints_the_exit_code() -> None:
    virtc("pod", "run", *MOCK, "--id", "p1")
    virtc("container", "stop", "p1", "1")
    assert virtc("container", "wait", "p1", "1").stdout == "143\n"
    virtc("pod", "stop", "p1")


def test_quiet_prints_ids_only() -> None:
    assert virtc("pod", "create", "-q", *MOCK, "--id", "p1").stdout == "p1\n"
    assert virtc("pod", "list", "-q").stdout == "p1\n"


def test_a_shell_can_complete_pods() -> None:
    virtc("pod", "create", *MOCK, "--id", "my-pod")
    assert "_VIRTC_COMPLETE=bash_complete" in virtc("completion", "bash").stdout
    words = {"COMP_WORDS": "virtc pod start my", "COMP_CWORD": "3", "_VIRTC_COMPLETE": "bash_complete"}
    script = "from vc_core.cli.entry import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **words}, capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout == "plain,my-pod\n"


def every_command() -> list[list[str]]:
    from vc_core.cli.main import virtc as top

    def walk(command: click.Command, words: list[str]) -> Iterator[list[str]]:
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                one = command.get_command(context, name)
                assert one is not None
                yield from walk(one, [*words, name])
        else:
            yield words

    return list(walk(top, []))


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("run alpine", "virtc pod run"),
        ("ps", "virtc pod list"),
        ("rm -f p1", "virtc pod delete"),
        ("pull alpine", "virtc image pull"),
        ("image rm alpine", "virtc image remove"),
        ("pod ls", "virtc pod list"),
        ("container exec p1 ls", "virtc exec"),
        ("pod logs p1", "virtc logs"),
        ("container ls", "virtc pod list"),
    ],
)
def test_a_command_of_docker_is_refused_with_that_of_virtc(words: str, meant: str) -> None:
    done = virtc(*words.split())
    assert done.returncode == 2
    assert f"Did you mean '{meant}'?" in done.stderr


@pytest.mark.parametrize("words", [["por"], ["pod", "lisx"]], ids=" ".join)
def test_a_command_that_does_not_exist_is_refused_with_a_similar_one(words: list[str]) -> None:
    done = virtc(*words)
    assert done.returncode == 2
    assert f"No such command '{words[-1]}'." in done.stderr
    if hasattr(click.exceptions, "NoSuchCommand"):  # older ones than click 8.4 propose no command
        assert f"Did you mean '{words[-1][:-1]}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", every_command(), ids=" ".join)
def test_every_command_explains_itself_with_an_example(words: list[str]) -> None:
    done = virtc(*words, "--help")
    assert done.returncode == 0
    assert "virtc " + " ".join(words) in done.stdout.split("Example: ")[1]
    listed = done.stdout.split("Options:\n")[-1]
    assert all(line.startswith(("  -", "   ")) for line in listed.splitlines()), "only options are among the options"


def test_a_terminal_is_needed_for_a_terminal() -> None:
    virtc("pod", "run", *MOCK, "--id", "p1")
    done = virtc("container", "enter", "-t", "p1", "1", "--", "sh")
    assert (done.returncode, done.stderr.count("\n")) == (125, 1)
    assert "-t needs a terminal" in done.stderr
    virtc("pod", "stop", "p1")


def test_ctrl_c_anywhere_in_the_import_of_a_class_ends_virtc_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted:
        def __set_name__(self, owner: type, name: str) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr("vc_core.list_pods", lambda: type("Class", (), {"field": Interrupted()}))
    done = virtc("pod", "list")
    assert (done.returncode, done.stderr) == (130, "")


def test_debug_adds_a_traceback() -> None:
    assert "Traceback" in virtc("--debug", "pod", "status", "nope").stderr


def test_a_state_root_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("VIRTCONTAINERS_ROOT", str(tmp_path / "file"))
    done = virtc("pod", "create", *MOCK)
    assert done.returncode == 1
    assert str(tmp_path / "file") in done.stderr
    assert done.stderr.count("\n") == 1


def test_names_that_could_steer_a_terminal_are_shown_as_escapes() -> None:
    from vc_core.text import printable

    assert printable("a\x1b[2Jb\n\u202ec\x9b") == "a\\x1b[2Jb\\n\\u202ec\\x9b"
