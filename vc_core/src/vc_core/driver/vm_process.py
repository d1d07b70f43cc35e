"""Starts, signals and watches the process of a VM. For drivers whose VM is a process of the host."""

from __future__ import annotations

import asyncio
import os
import resource
import select
import signal
import subprocess
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from vc_core.driver import descriptor_limit
from vc_core.errors import VMStartError

#: The environment of a hypervisor. No other variables are passed on: they may be secret, and /proc shows them.
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}

#: Bytes of a core dump, soft and hard: too few for any dump in a file, and the one value with which the kernel does not
#: pipe the dump to a program either (``do_coredump`` in Linux' fs/coredump.c; with zero it does).
_NO_CORE = (1, 1)

#: Seconds that :meth:`VMProcess.kill` blocks at most for a process to end after SIGKILL.
_KILLED = 5.0


def spawn(
    argv: Sequence[str], directory: Path, output: int, inherited: Collection[int], stdin: int = subprocess.DEVNULL
) -> tuple[int, int]:
    """Start a program in ``directory`` and return its pid and a pidfd to close.

    ``output``: descriptor for its output and error output. ``inherited``: descriptors that it gets under the same
    numbers. ``stdin``: descriptor for its input, by default the null device. The program is the leader of a session of
    its own, so that no terminal's signals reach it. It dumps no core, because that would write the guest's memory to a
    file of the host. Raises VMStartError.
    """
    try:
        child = subprocess.Popen(
            argv,
            cwd=directory,
            env=ENVIRONMENT,
            stdin=stdin,
            stdout=output,
            stderr=output,
            pass_fds=tuple(inherited),
            start_new_session=True,
            umask=0o077,
        )
    except OSError as error:
        raise VMStartError(f"{argv[0]} cannot be started: {error.strerror}") from error
    try:
        resource.prlimit(child.pid, resource.RLIMIT_CORE, _NO_CORE)
        descriptor_limit.restore(child.pid)
        pidfd = os.pidfd_open(child.pid)
    except OSError as error:
        child.kill()
        child.wait()
        raise VMStartError(f"{argv[0]} cannot be watched: {error.strerror}") from error
    child.returncode = 0  # it may outlive this process, and Popen warns about a child that was not waited for
    return child.pid, pidfd


class VMProcess:
    """The process of a VM, which this process or a former owner started, watched through its pidfd.

    Must be made in the event loop that it is used in; :meth:`close` closes the pidfd.
    """

    def __init__(self, pidfd: int) -> None:
        self._pidfd = pidfd
        self._loop = asyncio.get_running_loop()
        #: Resolves when the process has ended: to how ("exited with status 1"), or to "" if it is not this process'
        #: child, because only the parent gets the exit status. Cancelled by :meth:`close`.
        self.ended: asyncio.Future[str] = self._loop.create_future()
        self._loop.add_reader(pidfd, self._on_end)

    def signal(self, signum: int) -> None:
        """Send a signal; no error if the process has ended."""
        if not self.ended.done():
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signum)

    async def wait(self, timeout: float) -> bool:
        """Wait for the end, ``timeout`` seconds at most; return whether the process has ended."""
        await asyncio.wait({self.ended}, timeout=max(0.0, timeout))
        return self.ended.done()

    def kill(self) -> None:
        """SIGKILL the process and block until it has ended, so that no cancellation comes between."""
        self.signal(signal.SIGKILL)
        if not self.ended.done():
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            if poll.poll(_KILLED * 1000):
                self._on_end()

    def close(self) -> None:
        """Close the pidfd; the process runs on. May be called again."""
        if self._pidfd != -1:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
            self.ended.cancel()

    def _on_end(self) -> None:
        self._loop.remove_reader(self._pidfd)
        if not self.ended.done():
            self.ended.set_result(reap(self._pidfd))


def reap(pidfd: int) -> str:
    """Wait for a process that has ended, so that no zombie stays, and return how it ended; "" if it is not a child."""
    try:
        info = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    except ChildProcessError:
        info = None
    if info is None:
        return ""
    if info.si_code == os.CLD_EXITED:
        return f"exited with status {info.si_status}"
    return killed_by(info.si_status)


def killed_by(signum: int) -> str:
    """Return the end of a sentence about a process that a signal has ended: "was killed by SIGKILL"."""
    try:
        return f"was killed by {signal.Signals(signum).name}"
    except ValueError:  # a real-time signal
        return f"was killed by signal {signum}"
