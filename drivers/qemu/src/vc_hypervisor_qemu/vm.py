"""Vm: a QEMU process with what its owner has open to it: the monitor, and the logs of the console and of QEMU."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from contextlib import suppress

from vc_core.driver import ConsoleLog, ControlledVM, VMExit, VMProcess, console_log, vm_process
from vc_core.errors import HypervisorError
from vc_hypervisor_qemu import sockets
from vc_hypervisor_qemu.cmdline import CONSOLE, MONITOR
from vc_hypervisor_qemu.jail.cgroups import Cgroups
from vc_hypervisor_qemu.rundir import RunDir

#: What the reasons of QEMU's SHUTDOWN event mean (ShutdownCause in QEMU's qapi/run-state.json).
_SHUTDOWN = {
    "guest-shutdown": "the guest powered off",
    "guest-reset": "the guest reset itself",
    "guest-panic": "the guest's kernel panicked",
    "host-qmp-quit": "QEMU was asked to quit",
}

#: Seconds for each of the two polite ways to end QEMU, which mostly takes less than 10 ms.
_POLITE = 2.0
#: Seconds for reading what a process that has ended left in its sockets.
_LEFTOVERS = 1.0

#: Lines of the console that are searched for a panic, and lines of QEMU's messages that an error quotes.
_PANIC_LINES, _MESSAGE_LINES = 60, 3
_PANIC = r"Kernel panic - not syncing: .*"
#: What QEMU puts before a message because of ``-msg timestamp=on``.
_TIMESTAMP = r"(?m)^\d\S+Z "


#: How a process ended that SIGKILL has ended.
_KILLED = vm_process.killed_by(signal.SIGKILL)

#: How the launcher ends when a signal has ended QEMU, as shells do.
_STATUS_OF_SIGNAL = r"exited with status (\d+)"


class Vm(ControlledVM):
    """One VM and its QEMU process. Must be made in the event loop that it is used in.

    ``pidfd``: of the process that ends with QEMU and QEMU with it; used up. ``qemu``: the pid of QEMU itself, which is
    behind its sockets. ``cgroups``: those of QEMU.
    """

    def __init__(self, files: RunDir, qemu: int, pidfd: int, cgroups: Cgroups) -> None:
        from vc_hypervisor_qemu.monitor import Monitor  # QEMU starts meanwhile

        self._files, self._cgroups = files, cgroups
        self._process = VMProcess(pidfd)
        self.monitor = Monitor(files.socket(MONITOR), qemu)
        self._console, self._messages = ConsoleLog(files.console_log), ConsoleLog(files.messages_log)
        self._stopping = False
        with suppress(OSError):
            self._messages.start(os.open(files.messages, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC))
        with suppress(OSError, HypervisorError):
            self._console.start(sockets.connect(files.socket(CONSOLE), qemu).detach())
        self._end = asyncio.create_task(self._observe())

    @property
    def alive(self) -> bool:
        """Whether the process has not ended, as far as the event loop has seen."""
        return not self._process.ended.done()

    async def wait(self) -> VMExit:
        """Return when the VM has ended. Raises HypervisorError when this object is closed before."""
        await asyncio.wait({self._end})
        if self._end.cancelled():
            raise HypervisorError("the end of the VM is not watched any more: its hypervisor object was closed")
        return self._end.result()

    async def write_console(self, data: bytes, timeout: float) -> None:
        """Write to the guest's serial port. Raises HypervisorError when the guest does not read it."""
        try:
            async with asyncio.timeout(timeout):
                await self._console.send(data)
        except TimeoutError as error:
            raise HypervisorError(f"the guest did not read its console within {timeout:g} s") from error
        except OSError as error:
            raise HypervisorError(f"the guest's console cannot be written: {error.strerror}") from error

    async def end(self, timeout: float) -> None:
        """End QEMU: by its monitor, then by SIGTERM, then by SIGKILL. Raises HypervisorError if it still runs."""
        self._stopping = True
        clock = asyncio.get_running_loop().time
        end, polite = clock() + timeout, min(_POLITE, timeout / 4)
        try:
            await self.monitor.execute("quit", polite)
            ended = await self._process.wait(polite)
        except HypervisorError:  # it does not listen, or it ended before it answered
            ended = False
        for signum, patience in ((signal.SIGTERM, polite), (signal.SIGKILL, timeout)):
            if not ended:
                self._process.signal(signum)
                ended = await self._process.wait(min(patience, end - clock()))
        if not ended:
            raise HypervisorError(f"QEMU still runs {timeout:g} s after it was asked to stop, in spite of SIGKILL")
        await asyncio.wait({self._end})

    def kill(self) -> None:
        """End the process at once. Blocks until it has ended, so that no cancellation comes between."""
        self._process.kill()

    async def last_words(self) -> str:
        """Return how QEMU ended, with its last messages; "" if it does not end within a second."""
        if not await self._process.wait(_LEFTOVERS):
            return ""
        self._messages.drain()
        messages = re.sub(_TIMESTAMP, "", console_log.tail(self._files.messages_log, _MESSAGE_LINES)).replace(
            "\n", "; "
        )
        how = self._how(_of_launcher(self._process.ended.result()))
        return f"QEMU {how}: {messages}" if messages and not how.startswith("was killed") else f"QEMU {how}"

    def _how(self, how: str) -> str:
        """Return how QEMU ended, with what the kernel shows of a lack of memory, unless this object has killed it."""
        if self._stopping or how not in (_KILLED, ""):
            return how
        kills = self._cgroups.oom_kills()
        if kills:
            return f"{_KILLED} (out of memory)"
        if not how:
            return "ended, and only its parent can learn its exit status"
        if kills is None:
            return f"{how}; whether for lack of memory cannot be seen, because it had no control group of its own"
        return f"{how}, and not for lack of memory"

    async def aclose(self) -> None:
        """Close the monitor, the logs and the pidfd; the VM runs on."""
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
            await self.monitor.execute("query-status")  # connect, so that QEMU's last event arrives
        await asyncio.wait({self._process.ended})
        cause = await self.monitor.shutdown_reason(_LEFTOVERS)
        self._console.drain()
        reason = _SHUTDOWN.get(cause) or await self.last_words()
        if cause == "guest-reset" and (
            panic := re.search(_PANIC, console_log.tail(self._files.console_log, _PANIC_LINES))
        ):
            reason = f"the guest's kernel panicked: {panic[0].removeprefix('Kernel panic - not syncing: ')}"
        return VMExit(expected=self._stopping or cause == "host-qmp-quit", reason=reason)


def _of_launcher(how: str) -> str:
    """Return how QEMU ended, from how the launcher that waited for it did."""
    status = re.fullmatch(_STATUS_OF_SIGNAL, how)
    if status is None or int(status[1]) <= 128:
        return how
    return vm_process.killed_by(int(status[1]) - 128)
