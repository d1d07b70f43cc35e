"""Callers that attach to containers that run: output, input, signals, terminals and detaching."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import vc_core as vc
from vc_core import aio
from waiting import PATIENCE, wait_until

from .conftest import container, pod_config, supervisors, virtc_path, wait_ended

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.hypervisors("qemu")]

#: Repeats each line of its input with a mark, and prints a dot when it gets SIGUSR1.
SCRIPT = 'trap "echo usr1 >&2" USR1; echo ready; while :; do read -r line && echo "got $line"; done'


def repeats(bundle: Path) -> vc.ContainerConfig:
    return replace(container(bundle, "sh", "-c", SCRIPT, container_id="repeats"), interactive=True)


def wait_ready(one: vc.Container) -> None:
    assert next(one.logs(follow=True)).data == b"ready\n"


@pytest.fixture
def repeating(pod: vc.Pod, bundle: Path) -> Iterator[vc.Container]:
    """A container whose input is open, and that has printed a line."""
    made = pod.create_container(repeats(bundle))
    made.start()
    wait_ready(made)
    yield made
    made.delete(force=True)


def test_callers_see_what_is_printed_from_now_on_and_give_input(repeating: vc.Container) -> None:
    with repeating.attach() as first, repeating.attach() as second:
        assert first.stdin
        assert second.stdin
        first.stdin.write(b"one\n")
        second.stdin.write(b"two\n")
        for one in (first, second):
            assert one.stdout
            assert sorted(one.stdout.readline() for _ in range(2)) == [b"got one\n", b"got two\n"]
        first.close()
        second.kill("SIGUSR1")
        second.stdin.write(b"three\n")
        assert second.stdout
        assert second.stderr
        assert second.stdout.readline() == b"got three\n"
        assert second.stderr.readline() == b"usr1\n"
        assert repeating.status().state == "running"
        repeating.kill("SIGKILL")
        assert (second.stdout.read(), second.wait()) == (b"", 137)

    async def main() -> None:
        with pytest.raises(vc.StateError, match="attaching to it needs it running or paused"):
            await aio.attach_container(repeating.pod_id, repeating.id)

    asyncio.run(main())


def test_output_after_a_pause_reaches_who_attached_before_it_or_during_it(repeating: vc.Container) -> None:
    with repeating.attach() as before:
        repeating.pause()
        with repeating.attach() as during:
            repeating.resume()
            assert during.stdin
            during.stdin.write(b"one\n")
            for one in (before, during):
                assert one.stdout
                assert one.stdout.readline() == b"got one\n"


def test_the_command_attaches_and_exits_as_the_container_does(repeating: vc.Container) -> None:
    with subprocess.Popen(
        [virtc_path(), "attach", "shared/repeats"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as attached:
        assert attached.stdin
        assert attached.stdout
        attached.stdin.write(b"a line\n")
        attached.stdin.flush()
        assert attached.stdout.readline() == b"got a line\n"
        attached.stdin.close()  # the container's input stays open for others
        attached.send_signal(signal.SIGUSR1)
        wait_until(lambda: b"usr1\n" in [line.data for line in repeating.logs()])
        repeating.kill("SIGKILL")
        assert attached.wait(timeout=PATIENCE) == 137


def test_an_attachment_whose_reader_has_gone_ends_and_not_the_container(repeating: vc.Container) -> None:
    with subprocess.Popen(
        [virtc_path(), "attach", "shared/repeats"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as attached:
        assert attached.stdin
        assert attached.stdout
        attached.stdin.write(b"one\n")
        attached.stdin.flush()
        assert attached.stdout.readline() == b"got one\n"
        attached.stdout.close()
        attached.stdin.write(b"two\n")
        attached.stdin.flush()
        assert attached.wait(timeout=PATIENCE) == 141
    assert repeating.status().state == "running"


def test_input_stays_open_when_a_supervisor_is_lost(bundle: Path) -> None:
    with vc.run_pod(pod_config(containers=[repeats(bundle)])) as own:
        wait_ready(own.container("repeats"))
        for pid in supervisors(own.id):
            os.kill(pid, signal.SIGKILL)
            assert wait_ended(pid)
        with own.container("repeats").attach() as attached:
            assert attached.stdin
            assert attached.stdout
            attached.stdin.write(b"again\n")
            assert attached.stdout.readline() == b"got again\n"


def test_a_caller_that_does_not_read_keeps_nobody_from_writing(pod: vc.Pod, bundle: Path) -> None:
    script = "head -c 3000000 /dev/zero; echo; echo done >/tmp/done; sleep 100000"
    pod.create_container(replace(container(bundle, "sh", "-c", f"sleep 1; {script}"), id="prints"))
    pod.container("prints").start()
    with pod.container("prints").attach():
        show = vc.Cmd(["cat", "/tmp/done"])
        wait_until(lambda: pod.container("prints").enter(show).stdout == b"done\n")
    pod.container("prints").delete(force=True)


def test_a_terminal_is_attached_to_again_after_its_caller_detached(pod: vc.Pod, bundle: Path) -> None:
    pod.create_container(replace(container(bundle, "sh"), id="shell"))
    for words in (("container", "start", "-it", "shared", "shell"), ("attach", "shared/shell")):
        screen, line = pty.openpty()
        with subprocess.Popen([virtc_path(), *words], stdin=line, stdout=line, stderr=line) as client:
            os.close(line)
            shown = b""
            os.write(screen, b"echo $((6 * 7))$(tty)\n")
            while b"42/dev/pts" not in shown:
                shown += os.read(screen, 4096)
            os.write(screen, b"\x10\x11")
            assert client.wait(timeout=PATIENCE) == 0
        os.close(screen)
        assert pod.container("shell").status().state == "running"
    pod.container("shell").delete(force=True)
