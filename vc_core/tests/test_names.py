"""A file's name can be any bytes: one that is not UTF-8 breaks nothing, wherever on the host it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from vc_core.cli import output
from vc_core.errors import StorageError, VCError, error_from_wire
from vc_core.host import mounts
from vc_core.results import ContainerStatus, PodStatus
from vc_core.states import State
from vc_core.store.roots import ROOT_VARIABLE, Roots

NAME = "/pods/\udcff"


def test_a_mount_whose_name_is_not_utf8_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top = os.fsencode(tmp_path)
    names = [b"/mnt/\xff", top, top + b"/a\\040b", top + b"/\xc3\xa4\xff\\134", top + b"x"]
    lines = [b"21 1 8:1 / " + name + b" rw - ext4 /dev/\xfe rw\n" for name in names]
    (tmp_path / "mountinfo").write_bytes(b"".join(lines))
    monkeypatch.setattr(mounts, "_MOUNTINFO", tmp_path / "mountinfo")
    found = [os.fsencode(path) for path in mounts.mounted_below(tmp_path)]
    assert found == [top + b"/\xc3\xa4\xff\\", top + b"/a b", top]


def test_a_name_that_is_not_utf8_is_printed_with_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    pod = PodStatus(
        id="p1",
        state=State.FAILED,
        console_path=NAME,
        containers=(ContainerStatus(id="c", state=State.READY, log_path=NAME),),
    )
    output.print_json(pod)
    printed = json.loads(capsys.readouterr().out)
    assert printed["console_path"] == printed["containers"][0]["log_path"] == r"/pods/\udcff"
    output.print_json([Path(NAME)])
    assert json.loads(capsys.readouterr().out) == [r"/pods/\udcff"]
    output.print_table(["PATH"], [[NAME]])
    assert capsys.readouterr().out == "PATH\n/pods/\\udcff\n"


def test_an_error_with_a_name_that_is_not_utf8_can_be_sent_and_printed() -> None:
    error = StorageError(f"{NAME} cannot be read")
    sent = msgspec.json.decode(msgspec.json.encode(error.to_wire()))
    assert str(error_from_wire(sent)) == str(error) == r"/pods/\udcff cannot be read"
    assert isinstance(error_from_wire(sent), VCError)


def test_a_root_whose_name_is_not_utf8_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "\udcff"))
    with pytest.raises(StorageError, match=r"is not UTF-8; set VIRTCONTAINERS_ROOT"):
        Roots.from_environment()
    done = subprocess.run([Path(sys.executable).with_name("virtc"), "pod", "list"], capture_output=True)
    assert done.returncode == 1
    assert b"is not UTF-8" in done.stderr
    assert b"Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", [b"--bundle", b"--pod-rootfs", b"--hypervisor-option"])
def test_a_command_with_text_that_is_not_utf8_ends_with_a_sentence(option: bytes) -> None:
    virtc = Path(sys.executable).with_name("virtc")
    words = ["pod", "create", "--hypervisor", "mock", "--agent", "noop"]
    done = subprocess.run([virtc, *words, option, b"fail_start=\xff", "--", "true"], capture_output=True)
    assert done.returncode != 0
    assert b"Traceback" not in done.stderr
    assert b"UTF-8" in done.stderr
