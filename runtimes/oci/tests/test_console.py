"""A process whose terminal no engine takes is on the terminal of the caller."""

from __future__ import annotations

import os
import subprocess
import sys

from terminals import typed

#: Runs a process that sends a terminal of its own, as a shim does, and then acts on that.
_RUN = """
import os, pty, select, socket, termios
from vc_runtime.console import Console

with Console() as console:
    pid = os.fork()
    if not pid:
        master, slave = pty.openpty()
        modes = termios.tcgetattr(slave)
        modes[3] &= ~termios.ECHO
        termios.tcsetattr(slave, termios.TCSANOW, modes)
        socket.send_fds(console.socket, [b"/dev/pts/x"], [master])
        os.close(master)
        got = os.read(slave, 100).decode().strip()
        size = os.get_terminal_size(slave)
        os.write(slave, f"got {got} {size.lines} {size.columns}".encode())
        os._exit(0)
    select.select([console.ours], [], [])
    console.take()
    console.relay()
    os.waitpid(pid, 0)
"""


def test_what_is_typed_reaches_the_process_and_its_terminal_has_the_size_of_the_callers() -> None:
    code, shown = typed([sys.executable, "-c", _RUN], os.environ, b"typed\n", (21, 43))
    assert (code, b"got typed 21 43" in shown) == (0, True), shown


def test_without_a_terminal_of_the_caller_its_streams_are_copied() -> None:
    done = subprocess.run([sys.executable, "-c", _RUN], input=b"piped\n", capture_output=True, timeout=60)
    assert (done.returncode, done.stdout.split()[:2]) == (0, [b"got", b"piped"]), done.stderr
