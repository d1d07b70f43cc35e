"""Starts QEMU in its jail: runs the launcher, and reads what it reports."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import field
from enum import StrEnum
from pathlib import Path

from vc_core.driver import frozen, host_user, vm_process
from vc_core.errors import HypervisorError, VMStartError, VMTimeoutError
from vc_hypervisor_qemu.jail import ids, places
from vc_hypervisor_qemu.jail.places import View

#: The program, compiled when this distribution is built (hatch_build.py).
LAUNCHER = Path(__file__).with_name("launcher")

#: Capabilities (linux/capability.h) in QEMU's own user namespace: reading files whatever their modes; with a share that
#: it may write to also writing such, and changing their modes; with root file systems that it may write to also
#: changing owners. Never FSETID, with which a set-user-id file of the host keeps its bit when the guest rewrites it,
#: nor MKNOD and SYS_ADMIN.
_CHOWN, _DAC_OVERRIDE, _DAC_READ_SEARCH, _FOWNER = 0, 1, 2, 3

#: Open files: 256 disks need two each, a port or share one or two, and the 9p server closes files of the guest when
#: fewer are left. Processes: threads of QEMU for disks and shares are some hundred at most; each virtual CPU has one.
OPEN_FILES = 4096
PROCESSES = 1024

#: Seconds for processes of the launcher to end when nobody waits for them any more.
_ENDED = 5.0


class Level(StrEnum):
    """How much of a jail there is."""

    FULL = "full"  #: users of its own, and all of the next level
    NAMESPACES = "namespaces"  #: namespaces, a root without the host's files, and all of the next level
    LANDLOCK = "landlock"  #: only the paths that it needs, no new privileges, few capabilities, few system calls
    NONE = "none"  #: the last three of these


@frozen
class Order:
    """What the launcher is asked for."""

    argv: Sequence[str]
    view: View
    inherited: Sequence[int]  #: descriptors that QEMU gets under the same numbers
    host_network: bool = False  #: QEMU connects to the host's network, and is connected to
    cgroups: Sequence[str] = ()  #: files to which QEMU's process writes 0 to become a member
    owners: bool = False  #: it changes owners in a share
    preload: str = ""  #: a library that QEMU's dynamic loader adds, by the path at which QEMU sees it


@frozen
class Jailed:
    """A QEMU that has been started."""

    pid: int  #: the process that ends with QEMU, and QEMU with it
    pidfd: int  #: of that process, to be closed
    qemu: int  #: QEMU's own pid on this host; the same as ``pid`` without a pid namespace
    level: Level
    missing: tuple[str, ...] = field(default=())  #: one sentence for each part of a full jail that there is not


def levels_here() -> tuple[tuple[Level, ...], tuple[str, ...]]:
    """Return the levels that this process may try, the best one first, and why that is not FULL, if it is not."""
    if ids.has_ranges():
        return (Level.FULL, Level.LANDLOCK), ()
    why = f"QEMU has the ids of user {host_user()}, because only root can give it ids of its own"
    return (Level.NAMESPACES, Level.LANDLOCK), (why,)


class JailError(HypervisorError):
    """A part of the jail cannot be made on this host; QEMU has not been started."""


async def start(order: Order, level: Level, directory: Path, output: int, timeout: float) -> Jailed:
    """Start QEMU at a level, but NONE, within ``timeout`` seconds.

    ``directory``: working directory of the process that stands for the VM. ``output``: descriptor for QEMU's messages.
    Raises JailError, VMStartError when QEMU cannot be executed, VMTimeoutError. No process is left then.
    """
    reports, theirs = socket.socketpair()
    held = -1
    try:
        reports.setblocking(False)
        jail: list[str] = []
        if level is Level.FULL:
            first_id, held = ids.hold()
            jail = ["--translate", str(first_id), "--hold", str(held), *_of(ids.maps_of_range(first_id))]
        elif level is Level.NAMESPACES:
            jail = _of(ids.maps_of_user())
        argv = [str(LAUNCHER), "--report", str(theirs.fileno()), *jail, *_arguments(order), "--", *order.argv]
        passed = (*order.inherited, theirs.fileno(), *([held] if held != -1 else []))
        pid, pidfd = vm_process.spawn(argv, directory, output, passed)
        reports.send(b"g")  # it has its limits now, and its children inherit them
    except BaseException:
        reports.close()
        raise
    finally:
        theirs.close()
        if held != -1:
            os.close(held)
    launch = _Launch(reports, pid, pidfd, level)
    try:
        async with asyncio.timeout(timeout):
            return await launch.follow()
    except TimeoutError as error:
        launch.kill()
        raise VMTimeoutError(f"the jail of QEMU is not ready within {timeout:.3g} s") from error
    except BaseException:
        launch.kill()
        raise
    finally:
        reports.close()


class _Launch:
    """One run of the launcher."""

    def __init__(self, reports: socket.socket, pid: int, pidfd: int, level: Level) -> None:
        self._reports, self._pid, self._pidfd, self._level = reports, pid, pidfd, level
        self._qemu, self._notes = pid, list[str]()
        self._received = b""  # and not yet a whole line

    async def follow(self) -> Jailed:
        """Return once QEMU has been executed. Raises JailError, VMStartError."""
        while chunk := await self._receive():
            for kind, text in self._lines(chunk):
                self._take(kind, text)
        if self._level is not Level.LANDLOCK and self._qemu == self._pid:
            raise JailError("the launcher of QEMU ended without a report")
        return Jailed(self._pid, self._pidfd, self._qemu, *self._outcome())

    def _lines(self, chunk: bytes) -> list[tuple[str, str]]:
        """Return the first word and the rest of each line that is complete now."""
        *lines, self._received = (self._received + chunk).split(b"\n")
        words = (line.decode(errors="replace").partition(" ") for line in lines)
        return [(kind, text) for kind, _, text in words]

    async def _receive(self) -> bytes:
        try:
            return await asyncio.get_running_loop().sock_recv(self._reports, 65536)
        except ConnectionResetError:  # it has ended, and did not read what was sent to it
            return b""

    def _take(self, kind: str, text: str) -> None:
        match kind:
            case "init":
                self._replace(int(text))
                # It makes the jail only now: had this process ended before, it would have ended too.
                self._reports.send(b"g")
            case "qemu":
                self._qemu = int(text)
            case "note":
                self._notes.append(text)
            case "unusable":
                raise VMStartError(text)
            case _:
                raise JailError(text)

    def _replace(self, pid: int) -> None:
        """Go on with the init of QEMU's pid namespace, a child of this process as the launcher was."""
        pidfd = os.pidfd_open(pid)
        vm_process.reap(self._pidfd)
        os.close(self._pidfd)
        self._pid = self._qemu = pid
        self._pidfd = pidfd

    def _outcome(self) -> tuple[Level, tuple[str, ...]]:
        level = Level.NONE if self._notes and self._level is Level.LANDLOCK else self._level
        return level, tuple(self._notes)

    def kill(self) -> None:
        """End all processes; blocks until they have ended, so that no cancellation comes between."""
        launcher = self._pid
        _end(self._pidfd)
        # If it has made the init already, that waits for a byte which is not sent: it reports itself, and ends.
        with suppress(OSError):
            self._reports.shutdown(socket.SHUT_WR)
            self._reports.settimeout(_ENDED)
            while chunk := self._reports.recv(65536):
                for kind, text in self._lines(chunk):
                    if kind == "init" and int(text) != launcher:
                        _end(os.pidfd_open(int(text)))


def _end(pidfd: int) -> None:
    """SIGKILL a child of this process, wait for its end, and close its pidfd."""
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    vm_process.reap(pidfd)
    os.close(pidfd)


def _of(maps: ids.Maps) -> list[str]:
    return ["--users", maps.users, "--groups", maps.groups]


def _arguments(order: Order) -> Iterator[str]:
    writing = (_DAC_OVERRIDE, _FOWNER) if order.view.writes else ()
    for number in (_DAC_READ_SEARCH, *writing, *((_CHOWN,) if order.owners else ())):
        yield from ("--capability", str(number))
    yield from ("--open-files", str(OPEN_FILES), "--processes", str(PROCESSES))
    if order.host_network:
        yield "--host-network"
    if order.preload:
        yield from ("--preload", order.preload)
    for path in order.cgroups:
        yield from ("--cgroup", path)
    for fd in order.inherited:
        yield from ("--inherit", str(fd))
    yield from places.arguments(order.view)
