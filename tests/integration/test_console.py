"""The console of a guest: what it prints, and what is typed there."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import threading
import time
from pathlib import Path

import pytest

import vc_core as vc
from waiting import PATIENCE

from .conftest import container, pod_config, virtc, virtc_path

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.hypervisors("qemu")]

#: A shell on the console, as some guests have.
SHELL = "(while true; do sh </dev/ttyS0 >/dev/ttyS0 2>&1; done) &"


def read_until(fd: int, text: bytes) -> bytes:
    """Return what a terminal shows until it shows a text, or is closed; at most 30 s."""
    shown, end = b"", time.monotonic() + PATIENCE
    while text not in shown and time.monotonic() < end:
        if select.select([fd], [], [], 1)[0]:
            try:
                shown += os.read(fd, 4096)
            except OSError:  # the other end was closed
                break
    return shown


def test_a_person_reads_the_console_and_types_there(pod: vc.Pod) -> None:
    pod.enter(vc.Cmd(args=["busybox", "sh", "-c", SHELL]))
    terminal, line = pty.openpty()
    process = subprocess.Popen([virtc_path(), "console", "-i", pod.id], stdin=line, stdout=line, stderr=line)
    os.close(line)
    try:
        assert b"built-in shell" in read_until(terminal, b"built-in shell")
        os.write(terminal, b"echo $((40 + 2))-times\n")
        assert b"\n42-times" in read_until(terminal, b"42-times")
        os.write(terminal, b"\x1d")
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
    piped = virtc("console", "-i", pod.id, stdin=b"echo $((50 + 3))-times >/typed\n")
    assert piped.returncode == 0, piped.stderr
    wait = "until [ -s /typed ]; do usleep 50000; done; cat /typed"
    assert pod.enter(vc.Cmd(args=["busybox", "sh", "-c", wait]), timeout=30).stdout == b"53-times\n"
    assert b"42-times" in virtc("console", pod.id).stdout


def test_a_follower_of_the_console_gets_the_last_words_and_ends_with_the_vm(bundle: Path) -> None:
    with vc.run_pod(pod_config(id="talks", containers=[container(bundle)])) as pod:
        say = "echo from the guest >/dev/ttyS0"
        pod.enter(vc.Cmd(args=["busybox", "sh", "-c", say]))
        shown = b""
        stopping = threading.Thread(target=pod.stop)
        for data in pod.console(follow=True):
            if b"from the guest" in data:
                stopping.start()
            shown += data
        stopping.join()
    assert b"from the guest" in shown
