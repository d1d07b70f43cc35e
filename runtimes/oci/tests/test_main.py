"""The command line: what engines call, and errors where they look for them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vc_runtime import spec, translate, verbs
from vc_runtime.main import main
from vc_runtime.records import Record, Root

Make = Callable[..., Path]


@pytest.fixture(autouse=True)
def own_pods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIRTCONTAINERS_ROOT", str(tmp_path / "vc"))


def call(tmp_path: Path, *arguments: str) -> int:
    return main(["--root", str(tmp_path / "root"), *arguments])


def test_an_error_is_one_sentence_on_stderr_and_in_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    assert call(tmp_path, "--log", str(log), "--log-format", "json", "state", "gone") == 1
    assert capsys.readouterr().err == "vc-runtime: container gone does not exist\n"
    (line,) = log.read_text(encoding="utf-8").splitlines()
    written = json.loads(line)
    assert (written["level"], written["msg"]) == ("error", "container gone does not exist")


def test_deleting_what_is_not_there_is_an_error_only_without_force(tmp_path: Path) -> None:
    assert call(tmp_path, "delete", "gone") == 1
    assert call(tmp_path, "delete", "--force", "gone") == 0


def test_signals_for_all_processes_of_a_container_that_has_ended_are_no_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Root(tmp_path / "root").home("c1")
    home.create()
    home.write(Record(id="c1", bundle="", pod="c1", container="c1"))
    assert call(tmp_path, "kill", "--all", "c1", "9") == 0
    assert call(tmp_path, "kill", "c1", "9") == 1
    assert capsys.readouterr().err == "vc-runtime: container not running\n"


def test_an_interrupt_ends_a_verb_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(verbs, "state", interrupted)
    assert call(tmp_path, "state", "c1") == 130
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("verb", ["checkpoint", "restore"])
def test_verbs_that_no_vm_can_perform_are_refused(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(tmp_path, verb, "c1") == 1
    assert capsys.readouterr().err.startswith(f"vc-runtime: {verb} is not possible: ")


def test_descriptors_of_the_host_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(tmp_path, "create", "--preserve-fds", "1", "c1") == 1
    assert "--preserve-fds is not possible" in capsys.readouterr().err


@pytest.mark.parametrize("signal", ["TERMX", "65", "-1x"])
def test_a_signal_that_does_not_exist_is_refused_by_name(
    signal: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(tmp_path, "kill", "--", "c1", signal) == 1
    assert f"signal {signal!r} does not exist" in capsys.readouterr().err


def test_create_without_a_config_names_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(tmp_path, "create", "--bundle", str(tmp_path), "c1") == 1
    assert f"{tmp_path}/config.json cannot be read: No such file or directory" in capsys.readouterr().err


def test_what_is_refused_leaves_no_container(tmp_path: Path, bundle: Make, capsys: pytest.CaptureFixture[str]) -> None:
    folder = bundle(linux={"namespaces": []})
    assert call(tmp_path, "create", "--bundle", str(folder), "c1") == 1
    assert "cannot have the host's network" in capsys.readouterr().err
    assert call(tmp_path, "list", "--quiet") == 0
    assert capsys.readouterr().out == ""


def test_the_spec_that_is_written_can_be_created_from(tmp_path: Path) -> None:
    assert call(tmp_path, "spec", "--bundle", str(tmp_path)) == 0
    config = spec.read(tmp_path / "config.json", spec.Spec)
    translate.check(config, "c1")
    assert translate.translate(config, "c1", tmp_path).notes == ()


def test_features_name_no_version_of_the_specification_that_is_newer_than_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(tmp_path, "features") == 0
    features = json.loads(capsys.readouterr().out)
    assert features["ociVersionMin"] <= spec.VERSION <= features["ociVersionMax"]


def test_help_and_the_error_of_an_unknown_verb_list_all_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    for words, code in ((["--help"], 0), (["--root", "/x", "frobnicate", "start"], 2), ([], 2)):
        with pytest.raises(SystemExit) as ended:
            main(words)
        printed = capsys.readouterr()
        assert ended.value.code == code
        assert not words or all(verb in printed.out + printed.err for verb in ("create", "start", "delete", "features"))


@pytest.mark.parametrize("options", [["--log-format", "json", "--debug"], ["--log-f=json"], ["--rootless", "start"]])
def test_the_verb_is_found_behind_options(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*options, "features"]) == 0
    assert "ociVersionMin" in capsys.readouterr().out


def test_the_delete_of_what_has_ended_by_itself_loads_little(tmp_path: Path) -> None:
    home = Root(tmp_path / "root").home("c1")
    home.create()
    home.write(Record(id="c1", bundle=str(tmp_path), pod="c1", container="c1"))

    def loads(*words: str) -> set[str]:
        line = [sys.executable, "-X", "importtime", *words]
        done = subprocess.run(line, capture_output=True, encoding="utf-8", check=True)
        return set(re.findall(r"^import time:[\s\d]+\|[\s\d]+\|\s+(\S+)$", done.stderr, flags=re.MULTILINE))

    loaded = loads("-m", "vc_runtime", "--root", str(tmp_path / "root"), "delete", "c1")
    loaded -= loads("-c", "import msgspec")  # old versions import json; what measures coverage is in every interpreter
    assert "vc_core.store.store" in loaded, "no pod was looked for"
    needless = {
        "logging",
        "asyncio",
        "json",
        "ctypes",
        "vc_core.results",
        "vc_core.client.deletion",
        "vc_runtime.shims",
    }
    assert loaded & needless == set()
    assert not home.path.exists()
