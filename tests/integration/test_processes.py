"""Processes as objects: their streams, several at once, terminals and ends, in both APIs."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest

import vc_core as vc
from vc_core import aio
from waiting import PATIENCE

from .conftest import container as made_container

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.hypervisors("qemu")]

#: More than all buffers on the way of a stream hold together.
LONG = 8_000_000


def test_input_and_output_are_streams_while_the_process_runs(pod: vc.Pod) -> None:
    script = "while read -r line; do echo got $line; echo also >&2; done; echo end; exit 3"
    with pod.container("c1").popen(vc.Cmd(["sh", "-c", script])) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        for word in (b"one", b"two"):
            process.stdin.write(word + b"\n")
            assert process.stdout.readline() == b"got " + word + b"\n"
        assert process.poll() is None
        process.stdin.close()
        assert process.stdout.read() == b"end\n"
        assert list(process.stderr) == [b"also\n", b"also\n"]
        assert (process.wait(timeout=PATIENCE), process.poll(), process.wait()) == (3, 3, 3)


def test_reads_of_a_size_return_what_is_there(pod: vc.Pod) -> None:
    with pod.container("c1").popen(vc.Cmd(["sh", "-c", "printf 'ab\\ncdef'; sleep 100000"]), stderr=None) as process:
        assert process.stdout
        assert process.stderr is None
        assert process.stdout.read(1) == b"a"
        assert process.stdout.readline() == b"b\n"
        assert process.stdout.readline(3) == b"cde"
        assert process.stdout.read(0) == b""
        assert process.stdout.read(9) == b"f"


def test_nothing_is_lost_of_long_streams(pod: vc.Pod) -> None:
    with pod.container("c1").popen(vc.Cmd(["cat"])) as process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin
        assert stdout

        def write() -> None:
            stdin.write(bytes(LONG))
            stdin.close()

        writer = threading.Thread(target=write)
        writer.start()
        assert len(stdout.read()) == LONG
        writer.join()
        assert process.wait() == 0


def test_several_run_at_once_and_each_is_killed_alone(pod: vc.Pod) -> None:
    container = pod.container("c1")
    processes = [container.popen(vc.Cmd(["sh", "-c", "echo up; sleep 100000; true"])) for _ in range(3)]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == b"up\n"
    processes[0].kill()
    processes[1].kill("TERM")
    assert [processes[0].wait(timeout=PATIENCE), processes[1].wait(timeout=PATIENCE), processes[2].poll()] == [
        137,
        143,
        None,
    ]
    with pytest.raises(vc.CommandTimeoutError, match=r"did not end in 0\.1 s; it goes on"):
        processes[2].wait(timeout=0.1)
    for process in processes:
        process.close()
        process.close()


def test_a_process_that_is_closed_ends_with_all_that_it_started(pod: vc.Pod) -> None:
    with pod.popen(vc.Cmd(["sh", "-c", "sleep 8642 & sleep 8642; true"])):
        pass
    look = "for i in $(seq 1000); do ps -o args | grep -q '^sleep [8]642' || exit 0; usleep 50000; done; exit 1"
    assert pod.enter(vc.Cmd(["sh", "-c", look])).exit_code == 0


def test_a_terminal_has_a_size_that_can_change(pod: vc.Pod) -> None:
    script = 'stty -echo; stty size; while [ "$(stty size)" = "20 50" ]; do sleep 0.05; done; stty size'
    with pod.container("c1").popen(vc.Cmd(["sh", "-c", script]), terminal=(20, 50)) as process:
        assert process.stdout
        assert process.stdout.readline() == b"20 50\r\n"
        process.resize(30, 60)
        assert process.stdout.readline() == b"30 60\r\n"


def test_a_program_that_is_not_there_has_the_shells_exit_code(pod: vc.Pod) -> None:
    with pod.container("c1").popen(vc.Cmd(["no-such-program"])) as process:
        assert process.stderr
        assert b"no-such-program" in process.stderr.read()
        assert process.wait() == 127


def test_tasks_read_write_and_wait_at_once(pod: vc.Pod) -> None:
    async def work() -> tuple[list[bytes], list[int]]:
        container = aio.Pod(pod.id).container("c1")
        async with await container.popen(vc.Cmd(["sh", "-c", "cat; exit 4"])) as process:
            stdin, stdout = process.stdin, process.stdout
            assert stdin
            assert stdout
            waiters = [asyncio.create_task(process.wait()) for _ in range(3)]
            lines: list[bytes] = []

            async def read() -> None:
                async for line in stdout:
                    lines.append(line)

            reader = asyncio.create_task(read())
            for word in (b"a\n", b"b\n"):
                await stdin.write(word)
            stdin.close()
            await reader
            return lines, list(await asyncio.gather(*waiters))

    assert asyncio.run(work()) == ([b"a\n", b"b\n"], [4, 4, 4])


def test_captured_output_has_a_bound(pod: vc.Pod) -> None:
    container = pod.container("c1")
    long = container.enter(vc.Cmd(["sh", "-c", f"head -c {LONG} /dev/zero; echo few >&2"]), max_output=1000)
    assert (long.stdout, long.stderr, long.exit_code, long.truncated) == (bytes(1000), b"few\n", 0, True)
    exact = container.enter(vc.Cmd(["echo", "abc"]), max_output=4)
    assert (exact.stdout, exact.truncated) == (b"abc\n", False)


def test_a_stream_that_would_have_to_be_copied_is_refused(pod: vc.Pod) -> None:
    refused = pytest.raises(vc.ConfigError, match="neither a pipe, a socket, a file nor a terminal")
    with open("/dev/zero", "rb") as zeros, refused:  # noqa: PTH123
        pod.container("c1").popen(vc.Cmd(["cat"]), stdin=zeros)


def test_a_stream_may_be_a_file_and_none_is_discarded(pod: vc.Pod) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as sink:
        with pod.container("c1").popen(vc.Cmd(["echo", "through"]), stdin=None, stdout=sink.stdin) as process:
            assert (process.stdin, process.stdout, process.wait()) == (None, None, 0)
        assert sink.communicate(timeout=PATIENCE)[0] == b"through\n"


def test_the_main_process_of_a_container_has_streams_from_its_start_and_its_end_leaves_a_container(
    pod: vc.Pod, bundle: Path
) -> None:
    container = pod.create_container(made_container(bundle, "sh", "-c", "cat; exit 4", container_id="opened"))
    with container.open() as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"given\n")
        process.stdin.close()
        assert (process.stdout.read(), process.wait(timeout=PATIENCE)) == (b"given\n", 4)
    assert container.wait() == 4
    assert [line.data for line in container.logs()] == [b"given\n"]
    container.delete()


def test_a_container_goes_on_when_its_streams_are_closed(pod: vc.Pod, bundle: Path) -> None:
    container = pod.create_container(made_container(bundle, "sleep", "100000", container_id="closed"))
    container.open().close()
    assert container.status().state is vc.State.RUNNING
    container.delete(force=True)


def test_a_process_that_is_detached_runs_on(pod: vc.Pod) -> None:
    words = ["sh", "-c", "echo $$ >/tmp/detached; echo lost; cat; echo input ended >>/tmp/detached"]
    left = pod.container("c1").popen(vc.Cmd(words), stdin=subprocess.PIPE)
    left.detach()
    with pytest.raises(ValueError, match="was closed"):
        left.poll()
    end = "until read pid </tmp/detached; do usleep 20000; done; kill $pid; cat /tmp/detached"
    assert pod.enter_container("c1", vc.Cmd(["sh", "-c", end])).stdout.count(b"\n") == 1


def test_a_process_that_has_ended_is_not_detached_but_has_its_exit_code(pod: vc.Pod) -> None:
    with pod.container("c1").popen(vc.Cmd(["sh", "-c", "exit 3"])) as process:
        process.wait()
        process.detach()
        assert process.poll() == 3


def test_a_process_goes_on_with_the_connection_that_was_handed_over(pod: vc.Pod) -> None:
    process = pod.container("c1").popen(
        vc.Cmd(["sh", "-c", "trap 'exit 6' USR1; echo up; while true; do sleep 1; done"])
    )
    assert process.stdout
    assert process.stdout.readline() == b"up\n"
    with socket.socket(fileno=process.hand_over()) as connection:
        connection.setblocking(True)
        connection.settimeout(PATIENCE)
        process.close()
        with pytest.raises(ValueError, match="was closed"):
            process.hand_over()
        connection.send(json.dumps({"kind": "Signal", "number": signal.SIGUSR1}).encode())
        answer = json.loads(connection.recv(10_000))
        assert (answer["kind"], answer["exit_code"]) == ("Answer", 6)


def test_a_process_that_never_ran_has_no_connection_but_an_exit_code(pod: vc.Pod) -> None:
    with pod.container("c1").popen(vc.Cmd(["/nope"])) as process:
        with pytest.raises(vc.StateError, match="poll returns its exit code"):
            process.hand_over()
        assert process.poll() == 127
