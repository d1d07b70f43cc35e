"""Vm: the processes of a kernel with what their owner has open to them, and the record by which another takes over."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from vc_core.driver import ConsoleLog, ControlledVM, ProcessIdentity, VMExit, VMProcess, console_log
from vc_core.errors import HypervisorError
from vc_hypervisor_uml import process
from vc_hypervisor_uml.channel import ChannelEnd

#: Lines of the console that end a reason, and that are searched for a panic.
_REASON_LINES, _PANIC_LINES = 3, 60
_PANIC = re.compile(r"Kernel panic - not syncing: (.*)")


@dataclass(frozen=True, slots=True)
class VmRecord:
    """The JSON-able record of one VM, with which any process can control it.

    ``process`` is the first one of the VM's pid namespace. It keeps the host's ends of all channels and pipes open,
    under these numbers, and each owner of the VM takes copies of them.
    """

    process: ProcessIdentity
    gate: int  #: a pipe: a line written to it lets the kernel run
    console: int  #: a pipe: yields what the guest's console prints
    channels: dict[str, list[int]]  #: by the channel's name: data and receipts
    disks: dict[str, str]  #: by the disk's id: the name of its device file

    @classmethod
    def from_mapping(cls, saved: Mapping[str, object]) -> VmRecord:
        """Return the record that :meth:`to_mapping` returned. Raises KeyError, TypeError, ValueError when damaged."""
        process, channels, disks = saved["process"], saved["channels"], saved["disks"]
        if not isinstance(process, dict) or not isinstance(channels, dict) or not isinstance(disks, dict):
            raise TypeError("process, channels and disks must be mappings")
        numbers = {str(name): [int(number) for number in pair] for name, pair in channels.items()}
        names = {str(key): str(name) for key, name in disks.items()}
        gate, console = (int(str(saved[name])) for name in ("gate", "console"))
        return cls(ProcessIdentity.from_mapping(process), gate, console, numbers, names)

    def to_mapping(self) -> dict[str, object]:
        """Return the record as values that JSON has."""
        return asdict(self)


class Vm(ControlledVM):
    """One VM and its first process. Uses up the pidfd. Must be made in the event loop that it is used in."""

    def __init__(self, pidfd: int, console: int, log: Path) -> None:
        self._pidfd, self._log = pidfd, log
        self._channels: dict[str, ChannelEnd] = {}
        self._process = VMProcess(pidfd)
        self._console = ConsoleLog(log)
        self._stopping = False
        with suppress(OSError):  # it has just ended, or the disk is full
            self._console.start(process.take(pidfd, console))

    @property
    def alive(self) -> bool:
        """Whether the process has not ended, as far as the event loop has seen."""
        return not self._process.ended.done()

    def open_gate(self, gate: int) -> None:
        """Let the kernel run; ``gate`` is the number in the record. Raises OSError."""
        copy = process.take(self._pidfd, gate)
        try:
            os.write(copy, b"\n")
        finally:
            os.close(copy)

    async def open_channel(self, name: str, numbers: Sequence[int]) -> socket.socket:
        """Return a connection to a channel, given the numbers in the record; the former one ends. Raises OSError."""
        if name not in self._channels:
            with ExitStack() as stack:
                data, receipts = (
                    stack.enter_context(socket.socket(fileno=process.take(self._pidfd, number))) for number in numbers
                )
                self._channels[name] = ChannelEnd(data, receipts)
                stack.pop_all()
        return await self._channels[name].open()

    async def wait(self) -> VMExit:
        """Return when the VM has ended. Raises HypervisorError when this object is closed before."""
        await asyncio.wait({self._process.ended})
        if self._process.ended.cancelled():
            raise HypervisorError("the end of the VM is not watched any more: its hypervisor object was closed")
        return VMExit(expected=self._stopping, reason=self._reason())

    async def end(self, timeout: float) -> None:
        """Kill the VM: the agent has asked the guest before, and the kernel holds nothing that this loses.

        Raises HypervisorError when the process is still there after ``timeout`` seconds.
        """
        self._stopping = True
        self._process.signal(signal.SIGKILL)
        if not await self._process.wait(timeout):
            raise HypervisorError(f"User Mode Linux still runs {timeout:g} s after SIGKILL")
        self._console.drain()

    def kill(self) -> None:
        """End the process at once. Blocks until it has ended, so that no cancellation comes between."""
        self._process.kill()

    async def aclose(self) -> None:
        """Close the channels, the log and the pidfd; the VM runs on."""
        try:
            for channel in self._channels.values():
                await channel.aclose()
        finally:
            self._console.close()
            self._process.close()

    def _reason(self) -> str:
        """Return why the VM has ended, as one sentence."""
        self._console.drain()
        if panic := _PANIC.search(console_log.tail(self._log, _PANIC_LINES)):
            return f"the guest's kernel panicked: {panic[1]}"
        how = self._process.ended.result()
        if how == "exited with status 0":
            return "the guest powered off"
        output = console_log.tail(self._log, _REASON_LINES).replace("\n", "; ")
        how = how or "ended, and only its parent can learn its exit status"
        return f"User Mode Linux {how}" + (f": {output}" if output else "")
