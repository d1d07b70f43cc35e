"""Identifies a process beyond the reuse of pids (pid, start time, boot id) and signals it through a pidfd.

The pidfd is checked after it was opened, so that no other process is ever signalled. A zombie counts as ended.
"""

from __future__ import annotations

import os
import select
import signal
from dataclasses import asdict
from functools import cache
from pathlib import Path

from vc_core.errors import HypervisorError
from vc_core.frozen import frozen as frozen_class

#: The highest pid that Linux gives a process (PID_MAX_LIMIT in linux/threads.h); pid 1 is the host's init.
_PID_MAX = 1 << 22

#: More bytes than ``/proc/PID/stat`` has, which one read(2) returns whole: 52 numbers and a name of 64 bytes.
_STAT_MAX = 4096


@cache
def boot_id() -> str:
    """Return the id of the running boot of this host (proc(5), ``/proc/sys/kernel/random/boot_id``)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()


def stat_fields(pid: int) -> list[str] | None:
    """Return the fields of ``/proc/PID/stat`` from the third (state) on, or None if there is no process ``pid``."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            stat = os.read(fd, _STAT_MAX)
        finally:
            os.close(fd)
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the command's name in brackets: any bytes, spaces and brackets among them. The rest is ASCII.
    return stat[stat.rindex(b")") + 2 :].decode().split()


@cache
def _clock_offset() -> int:
    """Return by how many clock ticks ``/proc`` shows start times later here than in the host's time namespace.

    See time_namespaces(7): a namespace has an offset of the time since boot. It is shown for the namespace of children,
    which is another one only in a process that has just made it.
    """
    try:
        if Path("/proc/self/ns/time").readlink() != Path("/proc/self/ns/time_for_children").readlink():
            return 0
        lines = Path("/proc/self/timens_offsets").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0  # a kernel without time namespaces
    _, seconds, nanoseconds = next(line for line in lines if line.startswith("boottime")).split()
    return (int(seconds) * 10**9 + int(nanoseconds)) * os.sysconf("SC_CLK_TCK") // 10**9


def _start_time(fields: list[str]) -> int:
    """Return when a process started, of its :func:`stat_fields`, as all time namespaces of the host agree on it."""
    return int(fields[19]) - _clock_offset()


def frozen(pid: int) -> bool:
    """Return whether a process is stopped (SIGSTOP), or traced and stopped, so that it would not answer."""
    fields = stat_fields(pid)
    return fields is not None and fields[0] in "Tt"


@frozen_class
class ProcessIdentity:
    """One process of one boot of this host. JSON-able through :meth:`to_mapping`."""

    pid: int
    start_time: int  #: clock ticks after boot (proc(5), field 22 of stat)
    boot_id: str

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity | None:
        """Return the identity of the process that has this pid now, or None if there is none or it is a zombie."""
        fields = stat_fields(pid)
        if fields is None or fields[0] in "ZX":
            return None
        return cls(pid, _start_time(fields), boot_id())

    @classmethod
    def from_mapping(cls, mapping: dict[str, object]) -> ProcessIdentity:
        """Return the identity that :meth:`to_mapping` returned. Raises KeyError, ValueError when it is damaged."""
        pid, start_time = int(str(mapping["pid"])), int(str(mapping["start_time"]))
        if not 1 < pid <= _PID_MAX or start_time < 0:
            raise ValueError(f"no process of this project has the pid {pid} and the start time {start_time}")
        return cls(pid, start_time, str(mapping["boot_id"]))

    def to_mapping(self) -> dict[str, object]:
        """Return the identity as values that JSON has."""
        return asdict(self)

    def alive(self) -> bool:
        """Return whether this very process has not ended."""
        return self.pid > 1 and ProcessIdentity.of(self.pid) == self

    def open_pidfd(self) -> int | None:
        """Return a pidfd of this very process for the caller to close, or None if there is no such process any more.

        A zombie has one as well, because a process whose first thread has ended while others run looks the same; the
        pidfd becomes readable once all threads have ended. Raises HypervisorError if this process may open none.
        """
        if self.pid <= 1:
            return None
        try:
            pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return None
        except OSError as error:
            raise HypervisorError(f"process {self.pid} cannot be watched: {error.strerror}") from error
        try:
            fields = stat_fields(self.pid)
            same = fields is not None and _start_time(fields) == self.start_time
            if same and boot_id() == self.boot_id:
                return pidfd
        except BaseException:
            os.close(pidfd)
            raise
        os.close(pidfd)
        return None

    def send(self, signum: int) -> bool:
        """Send a signal to this very process; return whether it was delivered.

        Raises what :meth:`open_pidfd` raises.
        """
        pidfd = self.open_pidfd()
        if pidfd is None:
            return False
        try:
            signal.pidfd_send_signal(pidfd, signum)
        except ProcessLookupError:
            return False
        finally:
            os.close(pidfd)
        return True

    def wait(self, timeout: float) -> bool:
        """Block until this process ended, ``timeout`` seconds at most; return whether it did."""
        pidfd = self.open_pidfd()
        if pidfd is None:
            return True
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            return bool(poll.poll(timeout * 1000))
        finally:
            os.close(pidfd)

    def kill(self, timeout: float) -> bool:
        """SIGKILL this process and block until it ended, ``timeout`` seconds at most; return whether it did."""
        return not self.send(signal.SIGKILL) or self.wait(timeout)
