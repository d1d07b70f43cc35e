"""Starts the shims of containers and commands, and gives them the connection to what they stand for."""

from __future__ import annotations

import array
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vc_core import StateError
from vc_core.driver import ProcessIdentity
from vc_runtime.faults import RuntimeFault
from vc_runtime.records import Shim

if TYPE_CHECKING:
    from vc_core import Process

_PROGRAM = Path(__file__).with_name("shim")

#: Variables that a shim keeps for the command of its attendant.
_VARIABLES = frozenset({"PATH", "HOME", "LANG", "LC_ALL", "XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CACHE_HOME"})

#: Longest message of a shim that cannot start (bytes).
_REPORT_MAX = 4096


@dataclass(slots=True)
class Started:
    """A shim that waits for its confirmation: without it, it ends when this process ends."""

    shim: Shim
    _confirm: int

    def confirm(self) -> None:
        """Let it stay: its pid is recorded, or where the engine reads it."""
        with suppress(BrokenPipeError):
            os.write(self._confirm, b"\n")
        self.forget()

    def forget(self) -> None:
        """Let it end, unless it was confirmed. Idempotent."""
        if self._confirm >= 0:
            os.close(self._confirm)
            self._confirm = -1


@dataclass(frozen=True, slots=True)
class Streams:
    """What a shim offers: descriptors of its streams, None for one that it has not, and the size of its terminal."""

    fds: tuple[int | None, int | None, int | None]
    terminal: tuple[int, int] | None

    def input(self, foreground: bool) -> int | None:
        """Return the standard input; None for a terminal on which nobody types for the process.

        The supervisor reads ahead: without ``foreground`` it would take what is typed for the shell.
        """
        stdin = self.fds[0]
        return None if stdin is not None and not foreground and os.isatty(stdin) else stdin

    def close(self) -> None:
        """Close the descriptors."""
        for fd in self.fds:
            if fd is not None:
                os.close(fd)


def spawn(
    *,
    sock: socket.socket,
    listens: bool,
    network: int | None,
    console: socket.socket | None,
    memory: int | None = None,
    root: Path | None,
    args: Sequence[str] = (),
    home: Path | None = None,
    bundle: Path | None = None,
    again: Sequence[str] = (),
    stdio: int | None = None,
) -> Started:
    """Start a shim, which has the standard streams of this process, or the descriptor ``stdio`` three times.

    ``sock``: on which ``start`` connects if ``listens``, else a connection. ``network``: descriptor of its network
    namespace, None for a new one. ``console``: to which it sends a terminal of its own. ``root``: its root directory.
    ``memory``: descriptor of the file that limits the memory of its control group, in which the kernel is to kill it
    when that of the guest has killed the container.
    ``args``: what it stands for, under which lists of processes show it.
    ``again``: the command line that attaches in its place when the supervisor was lost, and whose descriptor 3 is a
    socket; or that ends the VM, when it has ended and its container, in the directory ``home``, is not deleted, or only
    its ``bundle`` is.
    Raises RuntimeFault.
    """
    (reads, report), (confirm, confirms) = os.pipe(), os.pipe()
    numbers = {"--report": report, "--confirm": confirm, "--listener" if listens else "--peer": sock.fileno()}
    if network is not None:
        numbers["--network"] = network
    if console is not None:
        numbers["--console"] = console.fileno()
    if memory is not None:
        numbers["--memory"] = memory
    line = [str(_PROGRAM)]
    for name, fd in numbers.items():
        line += [name, str(fd)]
    if root is not None:
        line += ["--root", str(root)]
    if args:
        line += ["--title", " ".join(args)]
    if home is not None:
        line += ["--home", str(home)]
    if bundle is not None:
        line += ["--bundle", str(bundle)]
    if again:
        line += ["--", *again]
    try:
        first = subprocess.Popen(
            line, pass_fds=tuple(numbers.values()), cwd="/", env=_environment(), stdin=stdio, stdout=stdio, stderr=stdio
        )
    except OSError as error:
        os.close(reads)
        os.close(confirms)
        raise RuntimeFault(f"the shim {_PROGRAM} cannot be run: {error.strerror}") from error
    finally:
        os.close(report)
        os.close(confirm)
    with os.fdopen(reads, "rb") as pipe:
        said = pipe.read(_REPORT_MAX).decode(errors="replace").splitlines()
    first.wait()
    pid = next((int(one[4:]) for one in said if one.startswith("pid ")), 0)
    identity = ProcessIdentity.of(pid) if pid else None
    why = next((one[6:] for one in said if one.startswith("error ")), "")
    if why or identity is None:
        os.close(confirms)
        raise RuntimeFault(f"the shim cannot be started: {why or 'it ended'}")
    return Started(Shim(identity.pid, identity.start_time, identity.boot_id), confirms)


def receive_streams(sock: socket.socket) -> Streams:
    """Return the streams that a shim offers on a connection. Raises RuntimeFault."""
    numbers = array.array("i")
    data, ancillary, _, _ = sock.recvmsg(64, socket.CMSG_SPACE(3 * numbers.itemsize), socket.MSG_CMSG_CLOEXEC)
    for _, kind, content in ancillary:
        if kind == socket.SCM_RIGHTS:
            numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
    fds = list(numbers)
    words = data.decode("ascii", "replace").split()
    if words == ["streams"] and len(fds) == 3:
        return Streams((fds[0], fds[1], fds[2]), None)
    if len(words) == 3 and words[0] == "terminal" and len(fds) == 2:
        return Streams((fds[0], fds[1], None), (int(words[1]) or 24, int(words[2]) or 80))
    for fd in fds:
        os.close(fd)
    raise RuntimeFault("the shim offers no streams; it has ended")


def give(sock: socket.socket, process: Process) -> int | None:
    """Hand a process over to the shim at the other end of a connection; one that never ran as its exit code.

    Returns that code, None for a process that runs. Raises RuntimeFault for a shim that has ended.
    """
    try:
        fd = process.hand_over()
    except StateError:
        code = process.poll()
        _send(sock, f"exit {code}".encode())
        return code
    try:
        _send(sock, b"connection", fd)
    finally:
        os.close(fd)
    return None


def _send(sock: socket.socket, text: bytes, *fds: int) -> None:
    try:
        socket.send_fds(sock, [text], fds)
    except (BrokenPipeError, ConnectionResetError) as error:
        raise RuntimeFault("the process was killed while it was started: its shim has ended") from error


def _environment() -> dict[str, str]:
    """Return of this process' environment what the command needs that connects a shim anew."""
    return {
        name: value for name, value in os.environ.items() if name in _VARIABLES or name.startswith("VIRTCONTAINERS_")
    }


def command_line(*arguments: str) -> list[str]:
    """Return the command line of this program with other arguments."""
    return [sys.executable, "-m", "vc_runtime", *arguments]
