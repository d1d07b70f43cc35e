"""Output of commands that nobody can have: on a full disk, without a reader, with closed standard descriptors."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import vc_core as vc
from waiting import PATIENCE

from .conftest import virtc_path

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.hypervisors("qemu")]


def enter(words: str, redirection: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the pod by virtc, under a redirection of the shell."""
    line = f"{virtc_path()} container enter shared c1 -- {words} {redirection}"
    return subprocess.run(["bash", "-c", line], capture_output=True, encoding="utf-8", timeout=60)


@pytest.mark.parametrize(
    ("words", "code"), [("echo hello", 125), ("head -c 5000000 /dev/zero", 141), ("sh -c 'echo hello; exit 3'", 3)]
)
def test_a_full_device_is_an_error_also_for_a_command_that_succeeds(pod: vc.Pod, words: str, code: int) -> None:
    done = enter(words, ">/dev/full")
    text = "virtc: the output of the command cannot be written: No space left on device; the command ended with the"
    assert done.stderr == f"{text} exit code {0 if code == 125 else code}\n"
    assert done.returncode == code


def test_a_full_disk_is_an_error_with_the_exit_code_of_the_command(pod: vc.Pod, tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", tmp_path], check=True)
    try:
        command = vc.Cmd(args=["sh", "-c", "trap '' PIPE; head -c 100000 /dev/zero; exit 3"])
        with (tmp_path / "file").open("wb") as file, pytest.raises(vc.OutputError, match="No space left") as caught:
            pod.enter_container("c1", command, stdout=file)
        assert caught.value.exit_code == 3
        assert (tmp_path / "file").stat().st_size == 65536
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_command_whose_reader_has_gone_ends_as_sigpipe_ends_one(pod: vc.Pod) -> None:
    done = enter("seq 1000000", "| head -1; exit ${PIPESTATUS[0]}")
    assert (done.returncode, done.stdout, done.stderr) == (141, "1\n", "")
    reader, writer = os.pipe()
    os.close(reader)
    assert pod.enter_container("c1", vc.Cmd(args=["echo", "hello"]), stdout=writer).exit_code == 141
    os.close(writer)


@pytest.mark.parametrize(("redirection", "output"), [("<&-", "hello\n"), (">&-", ""), ("2>&-", "hello\n")])
def test_a_closed_standard_descriptor_is_as_the_null_device(pod: vc.Pod, redirection: str, output: str) -> None:
    done = enter("sh -c 'cat; echo hello'", redirection)
    assert (done.returncode, done.stdout, done.stderr) == (0, output, "")


def test_a_command_that_ignores_sigpipe_ends_when_its_output_has_lost_its_reader(pod: vc.Pod) -> None:
    script = 'trap "" PIPE; while echo y; do :; done 2>/dev/null; exit 9'
    words = [virtc_path(), "container", "enter", pod.id, "c1", "--", "sh", "-c", script]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as command:
        assert command.stdout is not None
        assert command.stdout.read(2) == b"y\n"
        command.stdout.close()
        assert command.wait(PATIENCE) == 9
