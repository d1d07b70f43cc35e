"""When the call of a tool ends, in whatever way, the tool has ended too."""

import asyncio
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vc_core.errors import GuestError
from vc_guest_debian.tools import ToolError, run
from waiting import PATIENCE, ever_longer

#: A tool that starts another process, prints both pids, and never ends.
HANGS = ["sh", "-c", "sleep 1000 & echo $$ $!; wait"]


def ends(pid: int) -> bool:
    """Return whether a process ends soon."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(PATIENCE * 1000))
    finally:
        os.close(pidfd)


def test_a_tool_that_takes_too_long_is_killed_with_its_children(tmp_path: Path) -> None:
    pids: list[int] = []
    for seconds in ever_longer(0.5):
        with pytest.raises(GuestError, match=f"^cannot wait for it: sh took more than {seconds} seconds$"):
            asyncio.run(
                run(
                    HANGS,
                    purpose="wait for it",
                    timeout=seconds,
                    cwd=tmp_path,
                    on_line=lambda line: pids.extend(map(int, line.split())),
                )
            )
        if pids:
            break
    assert len(pids) == 2
    assert all(map(ends, pids))


def test_a_tool_whose_call_is_cancelled_is_killed_with_its_children(tmp_path: Path) -> None:
    pids: list[int] = []

    async def main() -> None:
        started = asyncio.Event()

        def on_line(line: str) -> None:
            pids.extend(map(int, line.split()))
            started.set()

        task = asyncio.create_task(run(HANGS, purpose="wait", timeout=60, cwd=tmp_path, on_line=on_line))
        await started.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()

    asyncio.run(main())
    assert len(pids) == 2
    assert all(map(ends, pids))


def test_a_tool_is_killed_with_its_builder(tmp_path: Path) -> None:
    code = """
import asyncio, sys
from pathlib import Path
from vc_guest_debian.tools import run
asyncio.run(run(["sh", "-c", "echo $$; exec sleep 1000"], purpose="wait", timeout=60, cwd=Path(sys.argv[1]),
                on_line=lambda line: print(line, flush=True)))
"""
    with subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, encoding="utf-8") as builder:
        assert builder.stdout is not None
        pid = int(builder.stdout.readline())
        builder.send_signal(signal.SIGKILL)
        assert ends(pid)


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("W: a warning\\nE: the cause\\nE: the consequence", "cannot go on: the cause"),
        ("tool: WARNING: so what\\ntool: the cause\\nhelp", "cannot go on: tool: the cause"),
        ("", "cannot go on: sh ended with exit code 3"),
    ],
)
def test_a_tool_that_fails_is_quoted(output: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(ToolError) as error:
        asyncio.run(run(["sh", "-c", f"printf '{output}' >&2; exit 3"], purpose="go on", timeout=60, cwd=tmp_path))
    assert str(error.value) == text


def test_a_tool_works_in_its_directory_without_the_hosts_language(tmp_path: Path) -> None:
    argv = ["sh", "-c", 'echo "$LC_ALL $TMPDIR"; pwd']
    assert asyncio.run(run(argv, purpose="look", timeout=60, cwd=tmp_path)) == f"C {tmp_path}\n{tmp_path}\n"
    assert list(Path(tmp_path).iterdir()) == []
