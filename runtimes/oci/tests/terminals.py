"""Runs a command on a terminal, as a person types it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import termios
from collections.abc import Mapping, Sequence

#: Seconds without output after which a command counts as hung.
_TIMEOUT = 120.0


def typed(
    command: Sequence[str], environment: Mapping[str, str], text: bytes, size: tuple[int, int]
) -> tuple[int, bytes]:
    """Run a command on a terminal of these rows and columns, type ``text``; return its exit code and what it shows."""
    pid, master = pty.fork()
    if not pid:
        os.execvpe(command[0], list(command), dict(environment))
    try:
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("4H", *size, 0, 0))
        os.write(master, text)
        shown = b""
        while select.select([master], [], [], _TIMEOUT)[0]:
            try:
                shown += os.read(master, 4096)
            except OSError:  # the end of a terminal
                break
    finally:
        os.close(master)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code, shown
