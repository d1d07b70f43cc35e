"""Names that steer terminals, through every command of virtc that shows them: ids, paths, records, reasons and logs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vc_core as vc
from vc_core.store.roots import ROOT_VARIABLE

#: A title of the window, a cleared screen, a forged line, an 8-bit control character, and text from right to left.
HOSTILE = "a\x1b]0;owned\x07\x1b[2J\nroot@host:~# \x9b31m\u202exe.elif\u2066"
NOT_UTF8 = os.fsdecode(b"caf\xe9")

#: Characters that are printable for Python, but change the direction of the text around them.
_DIRECTIONS = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@pytest.fixture(autouse=True)
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a directory of a hostile name, with a bundle in it; the roots are below another one."""
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "root"))
    (tmp_path / HOSTILE / "bundle/rootfs/bin").mkdir(parents=True)
    yield tmp_path / HOSTILE
    for pod in vc.list_pods():
        vc.delete_pod(pod.id, force=True)


def shown(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run virtc; what it prints must be nothing but text on lines."""
    command = [str(Path(sys.executable).with_name("virtc")), *map(str, arguments)]
    raw = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    done = subprocess.CompletedProcess(command, raw.returncode, raw.stdout.decode(), raw.stderr.decode())
    for text in (done.stdout, done.stderr):
        assert all(line.isprintable() for line in text.split("\n")), text
        assert not _DIRECTIONS & set(text), text
        assert "\nroot@host" not in text
    return done


def mock(top: Path) -> vc.PodConfig:
    container = vc.ContainerConfig(id="c1", root_fs=str(top / "bundle"), cmd=vc.Cmd(args=[HOSTILE]))
    return vc.PodConfig(id="p1", hypervisor_type="mock", agent_type="noop", containers=[container])


@pytest.mark.parametrize("name", [HOSTILE, NOT_UTF8], ids=["escapes", "not-utf8"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("pod", "status", "{}"),
        ("pod", "delete", "--force", "{}"),
        ("pod", "create", "--id", "{}", "--hypervisor", "mock", "--agent", "noop", "--", "x"),
        ("pod", "create", "--hypervisor", "{}", "--", "x"),
        ("pod", "run", "--mount", "/nowhere/{}:/x", "--hypervisor", "mock", "--agent", "noop", "--", "x"),
        ("pod", "create", "--env-file", "/nowhere/{}", "--hypervisor", "mock", "--agent", "noop", "--", "x"),
        ("pod", "create", "--agent-option", "{}=1", "--hypervisor", "mock", "--agent", "noop", "--", "x"),
        ("container", "status", "p1", "{}"),
        ("container", "kill", "--signal", "{}", "p1", "c1"),
        ("guest", "build", "--guest-option", "{}=1"),
    ],
    ids=lambda arguments: " ".join(arguments[:3]),
)
def test_a_name_that_a_caller_gives_is_text_in_the_error(arguments: tuple[str, ...], name: str, top: Path) -> None:
    vc.create_pod(mock(top))
    done = shown(*(argument.replace("{}", name) for argument in arguments))
    assert done.returncode in (1, 2)
    assert done.stderr


def test_a_path_of_a_pod_is_text_in_tables_and_the_same_path_in_json(top: Path) -> None:
    vc.run_pod(mock(top))
    assert shown("pod", "list").returncode == 0
    assert "c1" in shown("pod", "status", "p1").stdout
    assert json.loads(shown("pod", "status", "--json", "p1").stdout)["id"] == "p1"
    assert shown("container", "status", "p1", "c1").returncode == 0


@pytest.mark.promise("T24")
def test_reasons_in_a_record_are_text_in_tables_and_json(top: Path, tmp_path: Path) -> None:
    vc.create_pod(mock(top))
    path = tmp_path / "root/state/pods/p1/state.json"
    record = json.loads(path.read_bytes())
    record["reason"] = record["containers"]["c1"]["reason"] = HOSTILE
    path.write_text(json.dumps(record), encoding="utf-8")
    for arguments in (("pod", "status", "p1"), ("container", "status", "p1", "c1")):
        assert r"a\x1b]0;owned\x07\x1b[2J\nroot@host:~# \x9b31m\u202exe.elif\u2066" in shown(*arguments).stdout
    assert json.loads(shown("pod", "status", "--json", "p1").stdout)["reason"] == HOSTILE
    assert json.loads(shown("pod", "list", "--json").stdout)[0]["reason"] == HOSTILE


def test_a_broken_record_and_a_strange_directory_do_not_break_the_list(top: Path, tmp_path: Path) -> None:
    vc.create_pod(mock(top))
    pods = tmp_path / "root/state/pods"
    (pods / "broken").mkdir()
    (pods / "broken/state.json").write_text(json.dumps({"id": HOSTILE, HOSTILE: HOSTILE}), encoding="utf-8")
    for name in (HOSTILE, NOT_UTF8):
        (pods / name).mkdir()
    assert [line.split()[0] for line in shown("pod", "list").stdout.splitlines()[1:]] == ["broken", "p1"]
    assert shown("pod", "status", "broken").returncode == 1
    vc.delete_pod("broken", force=True)


@pytest.mark.promise("T24")
def test_what_the_log_of_a_supervisor_says_of_a_guest_is_one_line_for_each_event(tmp_path: Path) -> None:
    script = (
        "import logging, pathlib, sys; from vc_core.supervisor.process import _detach;"
        "_detach(pathlib.Path(sys.argv[1])); log = logging.getLogger('x'); log.warning('pod %s', sys.argv[2])\n"
        "try: raise ValueError(sys.argv[2])\n"
        "except ValueError: log.exception('it failed')"
    )
    log = tmp_path / "log"
    subprocess.run([sys.executable, "-c", script, log, HOSTILE], check=True, timeout=60)
    text = log.read_text(encoding="utf-8")
    assert all(line.isprintable() for line in text.split("\n"))
    assert not _DIRECTIONS & set(text)
    assert text.count("WARNING x: pod a") == 1
