"""A VM as its owner holds it: the QEMU process, its monitor, and what the guest's console and QEMU say."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from contextlib import suppress

from vc_core.driver import Capture, VMExit, VMProcess, capture
from vc_core.errors import HypervisorError
from vc_hypervisor_qemu import sockets
from vc_hypervisor_qemu.cmdline import CONSOLE, MONITOR
from vc_hypervisor_qemu.monitor import Monitor
from vc_hypervisor_qemu.rundir import RunDir

#: What the reasons of QEMU's SHUTDOWN event mean for a VM of ours.
_SHUTDOWN = {
    "guest-shutdown": "the guest powered off",
    "guest-reset": "the guest reset itself",
    "guest-panic": "the guest's kernel panicked",
    "host-qmp-quit": "QEMU was told to quit",
}

#: Seconds for each of the two polite ways to end QEMU; mostly it is gone within 10 ms.
_POLITE = 2.0
#: Seconds for what a process that has ended left in its sockets.
_LEFTOVERS = 1.0

#: Lines of the console that are searched for a panic, and lines of QEMU's own that an error quotes.
_PANIC_LINES, _LAST_WORDS = 60, 3
_PANIC = re.compile(r"Kernel panic - not syncing: .*")
#: What QEMU puts before a message with ``-msg timestamp=on``.
_TIMESTAMP = re.compile(r"^\d\S+Z ", re.MULTILINE)


class Vm:
    """One VM of a living QEMU process. Made when that was started, and by each later owner; lives in one event loop."""

    def __init__(self, files: RunDir, pid: int, pidfd: int) -> None:
        self._files = files
        self._process = VMProcess(pidfd)
        self.monitor = Monitor(files.socket(MONITOR), pid)
        self._console, self._messages = Capture(files.console_log), Capture(files.messages_log)
        self._stopping = False
        with suppress(OSError):
            self._messages.start(os.open(files.messages, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        with suppress(OSError, HypervisorError):
            self._console.start(sockets.connect(files.socket(CONSOLE), pid).detach())
        self._end = asyncio.create_task(self._observe())

    @property
    def alive(self) -> bool:
        """Whether the process lives, as far as is known."""
        return not self._process.ended.done()

    async def wait(self) -> VMExit:
        """Return when the VM has ended. Raises HypervisorError when this object is closed before."""
        await asyncio.wait({self._end})
        if self._end.cancelled():
            raise HypervisorError("nobody watches the VM any more: its hypervisor object was closed")
        return self._end.result()

    async def end(self, timeout: float) -> None:
        """End the VM: ask QEMU, then tell it, then kill it. Raises HypervisorError if it lives on after all."""
        self._stopping = True
        clock = asyncio.get_running_loop().time
        end, polite = clock() + timeout, min(_POLITE, timeout / 4)
        try:
            await self.monitor.execute("quit", polite)
            ended = await self._process.wait(polite)
        except HypervisorError:  # it does not listen, or it has gone before it answered
            ended = False
        for signum, patience in ((signal.SIGTERM, polite), (signal.SIGKILL, timeout)):
            if not ended:
                self._process.signal(signum)
                ended = await self._process.wait(min(patience, end - clock()))
        if not ended:
            raise HypervisorError(f"QEMU still lives {timeout:g} s after it was told to stop, even by SIGKILL")
        await asyncio.wait({self._end})

    def kill(self) -> None:
        """End the VM at once, blocking for the moment that takes: for clean-ups that must not be interrupted."""
        self._process.kill()

    async def last_words(self) -> str:
        """Return QEMU's own words on why it ended, with how it did; "" if it does not end in a moment."""
        if not await self._process.wait(_LEFTOVERS):
            return ""
        self._messages.drain()
        said = _TIMESTAMP.sub("", capture.tail(self._files.messages_log, _LAST_WORDS)).replace("\n", "; ")
        how = self._process.ended.result() or "ended, and only its parent knows how"
        return f"QEMU {how}: {said}" if said and not how.startswith("was killed") else f"QEMU {how}"

    async def aclose(self) -> None:
        """Release everything; the VM runs on."""
        self._end.cancel()
        try:
            await asyncio.wait({self._end})
            await self.monitor.aclose()
        finally:
            self._console.close()
            self._messages.close()
            self._process.close()

    async def _observe(self) -> VMExit:
        with suppress(HypervisorError):
            await self.monitor.execute("query-status")  # be connected, so that QEMU's last event reaches us
        await asyncio.wait({self._process.ended})
        cause = await self.monitor.shutdown_reason(_LEFTOVERS)
        self._console.drain()
        reason = _SHUTDOWN.get(cause) or await self.last_words()
        if cause == "guest-reset" and (panic := _PANIC.search(capture.tail(self._files.console_log, _PANIC_LINES))):
            reason = f"the guest's kernel panicked: {panic[0].removeprefix('Kernel panic - not syncing: ')}"
        return VMExit(expected=self._stopping or cause == "host-qmp-quit", reason=reason)
