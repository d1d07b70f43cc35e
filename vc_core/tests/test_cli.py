"""The command virtc: what it prints, where, and its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

MOCK = ("--hypervisor", "mock", "--agent", "noop")


def virtc(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("virtc")), *arguments],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60,
    )  # fmt: skip


def test_create_prints_the_pod_s_id():
    done = virtc("pod", "create", *MOCK, "--id", "p1")
    assert (done.stdout, done.stderr, done.returncode) == ("Created pod p1\n", "", 0)


def test_run_prints_the_pod_s_id():
    assert virtc("pod", "run", *MOCK, "--id", "p1").stdout == "Created pod p1\n"
    assert virtc("pod", "delete", "--force", "p1").returncode == 0


def test_tables_are_padded_with_spaces_and_have_no_trailing_blanks():
    long_id = "p" * 64
    for pod_id in ("a", long_id):
        virtc("pod", "create", *MOCK, "--id", pod_id)
    assert virtc("pod", "list").stdout == (
        f"{'POD ID':64}  STATE  HYPERVISOR  AGENT\n"
        f"{'a':64}  ready  mock        noop\n"
        f"{long_id}  ready  mock        noop\n"
    )


def test_status_shows_the_pod_and_its_container():
    virtc("pod", "create", *MOCK, "--id", "p1")
    assert virtc("pod", "status", "p1").stdout == (
        "POD ID  STATE  HYPERVISOR  AGENT\n"
        "p1      ready  mock        noop\n\n"
        "CONTAINER ID  STATE\n"
        "1             ready\n"
    )


def test_json_is_an_object_for_status_and_an_array_for_list():
    virtc("pod", "create", *MOCK, "--id", "p1")
    one, all_pods = (json.loads(virtc("pod", *words, "--json").stdout) for words in (("status", "p1"), ("list",)))
    assert one["id"] == "p1"
    assert all_pods == [one]


def test_ids_may_be_options_as_in_v0_1_0():
    virtc("pod", "create", *MOCK, "--id", "p1")
    for words in (("start",), ("stop",), ("delete",)):
        done = virtc("pod", *words, "--id", "p1")
        assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_enter_exits_as_the_command_does_and_prints_nothing_else():
    virtc("pod", "run", *MOCK, "--id", "p1")
    for words in (("p1", "1", "--", "true"), ("--pod-id", "p1", "--id", "1", "--cmd", "true")):
        done = virtc("container", "enter", *words)
        assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
    virtc("pod", "delete", "--force", "p1")


@pytest.mark.parametrize(
    ("words", "code", "says"),
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
def test_a_failure_is_one_sentence_on_stderr_and_an_exit_code(words: tuple[str, ...], code: int, says: str):
    done = virtc(*words)
    assert done.returncode == code
    assert done.stdout == ""
    assert says in done.stderr
    assert done.stderr.startswith("virtc: ")
    assert done.stderr.count("\n") == 1


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
        ("pod", "run", "--rm"),
        ("pod", "status", "a", "--id", "b"),
        ("container", "enter", "a"),
    ],
)
def test_wrong_usage_is_exit_code_2(words: tuple[str, ...]):
    done = virtc(*words)
    assert done.returncode == 2
    assert "Usage: virtc" in done.stderr


def test_debug_adds_a_traceback():
    assert "Traceback" in virtc("--debug", "pod", "status", "nope").stderr


def test_a_state_root_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("VIRTCONTAINERS_ROOT", str(tmp_path / "file"))
    done = virtc("pod", "create", *MOCK)
    assert done.returncode == 1
    assert str(tmp_path / "file") in done.stderr
    assert done.stderr.count("\n") == 1


def test_names_that_could_steer_a_terminal_are_shown_as_escapes():
    from vc_core.cli.output import printable

    assert printable("a\x1b[2Jb\n\u202ec\x9b") == "a\\x1b[2Jb\\n\\u202ec\\x9b"
