"""Vm: the QEMU process of a domain with what its owner has open to it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vc_core.driver import ConsoleLog, ControlledVM, VMExit, VMProcess, console_log
from vc_core.errors import HypervisorError
from vc_hypervisor_libvirt import virsh

#: Lines of the console that are searched for the reason of an end, from which the first that matches is taken.
_REASON_LINES = 60
_REASONS = (
    (re.compile(r"Kernel panic - not syncing: (.*)"), "the guest's kernel panicked: {}"),
    (re.compile(r"reboot: Power down()"), "the guest powered off"),
    (re.compile(r"reboot: Restarting system()"), "the guest rebooted"),
)


class Vm(ControlledVM):
    """One VM and its QEMU process. Uses up the pidfd. Must be made in the event loop that it is used in.

    The process is watched through its pidfd and not through the daemon, which may be restarted meanwhile.
    """

    def __init__(self, pidfd: int, uri: str, domain: str, console: Path, log: Path) -> None:
        self._uri, self._domain, self._log = uri, domain, log
        self._process = VMProcess(pidfd)
        self._console = ConsoleLog(log)
        self._stopping = False
        with suppress(OSError):  # it has just ended, or the disk is full
            self._console.start(connect(console).detach())

    @property
    def alive(self) -> bool:
        """Whether the process has not ended, as far as the event loop has seen."""
        return not self._process.ended.done()

    async def wait(self) -> VMExit:
        """Return when the VM has ended. Raises HypervisorError when this object is closed before."""
        await asyncio.wait({self._process.ended})
        if self._process.ended.cancelled():
            raise HypervisorError("the end of the VM is not watched any more: its hypervisor object was closed")
        return VMExit(expected=self._stopping, reason=self._reason())

    async def end(self, timeout: float) -> None:
        """Let the daemon end QEMU; kill it if the daemon does not. Raises HypervisorError if it still runs."""
        self._stopping = True
        clock = asyncio.get_running_loop().time
        end = clock() + timeout
        with suppress(HypervisorError):
            await virsh.destroy(self._uri, self._domain, timeout / 2)
        if not await self._process.wait(0):
            self._process.signal(signal.SIGKILL)
            if not await self._process.wait(end - clock()):
                raise HypervisorError(f"QEMU still runs {timeout:g} s after it was asked to stop, in spite of SIGKILL")
        self._console.drain()

    def kill(self) -> None:
        """End the process at once. Blocks until it has ended, so that no cancellation comes between."""
        self._process.kill()

    async def aclose(self) -> None:
        """Close the log and the pidfd; the VM runs on."""
        self._console.close()
        self._process.close()

    def _reason(self) -> str:
        """Return why the VM has ended, as one sentence: libvirt keeps no state of a domain that is gone."""
        if self._stopping:
            return "the VM was stopped"
        self._console.drain()
        text = console_log.tail(self._log, _REASON_LINES)
        for pattern, reason in _REASONS:
            if found := pattern.search(text):
                return reason.format(found[1])
        return "QEMU ended, and the guest did not say why; see the log of the domain in the directory of the daemon"


def connect(path: Path) -> socket.socket:
    """Return a non-blocking socket connected to the one at ``path``. Raises OSError."""
    client = socket.socket(socket.AF_UNIX)
    try:
        client.setblocking(False)
        with directory(path.parent) as short:
            client.connect(f"{short}/{path.name}")
    except BaseException:
        client.close()
        raise
    return client


@contextmanager
def directory(path: Path) -> Iterator[str]:
    """Yield a name of a directory that is short enough for a socket's address, for every process of this user."""
    descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/{os.getpid()}/fd/{descriptor}"
    finally:
        os.close(descriptor)
