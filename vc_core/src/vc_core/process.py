"""Who a process is, so that nobody else is ever signalled, and how to end it.

A pid alone is no identity: it is used again after the process ended. Identity here is pid, start time and boot id, and
signals go through a pidfd that was checked after it was opened. A zombie is dead.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path


def boot_id() -> str:
    """Return the id of the running boot of this host (proc(5), ``/proc/sys/kernel/random/boot_id``)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _stat_fields(pid: int) -> list[str] | None:
    """Return the fields of ``/proc/PID/stat`` from the third (state) on, or None if there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the command's name in brackets, which may itself hold spaces and brackets.
    return stat[stat.rindex(")") + 2 :].split()


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process of one boot of this host. JSON-able through :meth:`to_mapping`."""

    pid: int
    start_time: int  #: clock ticks after boot (proc(5), field 22 of stat)
    boot_id: str

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity | None:
        """Return the identity of a process that lives now, or None if it does not (any more)."""
        fields = _stat_fields(pid)
        if fields is None or fields[0] in "ZX":
            return None
        return cls(pid, int(fields[19]), boot_id())

    @classmethod
    def from_mapping(cls, mapping: dict[str, object]) -> ProcessIdentity:
        """Return the identity that :meth:`to_mapping` wrote."""
        return cls(int(str(mapping["pid"])), int(str(mapping["start_time"])), str(mapping["boot_id"]))

    def to_mapping(self) -> dict[str, object]:
        """Return JSON-able facts."""
        return asdict(self)

    def alive(self) -> bool:
        """Tell whether this very process still lives."""
        return self.pid > 1 and ProcessIdentity.of(self.pid) == self

    def open_pidfd(self) -> int | None:
        """Return a pidfd of this very process for the caller to close, or None if it is gone.

        A process whose first thread has ended looks like a zombie while others still run; its pidfd says when all did.
        """
        try:
            pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return None
        fields = _stat_fields(self.pid)
        if self.pid <= 1 or fields is None or int(fields[19]) != self.start_time or boot_id() != self.boot_id:
            os.close(pidfd)
            return None
        return pidfd

    def send(self, signum: int) -> bool:
        """Send a signal to this very process; return whether it was still there."""
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

    def wait(self, deadline: float) -> bool:
        """Block until this process ended, ``deadline`` seconds at most; return whether it did."""
        pidfd = self.open_pidfd()
        if pidfd is None:
            return True
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            return bool(poll.poll(deadline * 1000))
        finally:
            os.close(pidfd)

    def kill(self, deadline: float) -> bool:
        """SIGKILL this process and block until it ended, ``deadline`` seconds at most; return whether it did."""
        return not self.send(signal.SIGKILL) or self.wait(deadline)


def find_in_directory(directory: Path, marker: str) -> list[ProcessIdentity]:
    """Return the processes that work in ``directory`` and carry ``marker`` in an argument.

    Called to find a VM whose creator died before it could record it: a hypervisor's process has the pod's run directory
    as its working directory and the pod's id in its arguments.
    """
    return [one for one, words in _users_of(directory, "cwd") if any(marker.encode() in word for word in words)]


def find_supervisors(pod_id: str, log: Path) -> list[ProcessIdentity]:
    """Return the supervisors of a pod (see ``vc_core.supervisor``) whose error output goes to the file ``log``."""
    wanted = {b"vc_core.supervisor", pod_id.encode()}
    return [one for one, words in _users_of(log, "fd/2") if wanted <= set(words)]


def _users_of(path: Path, link: str) -> Iterator[tuple[ProcessIdentity, list[bytes]]]:
    """Yield every process whose ``/proc/PID/LINK`` is the file ``path``, with its arguments.

    The files themselves are compared: their names differ between mount namespaces.
    """
    try:
        wanted = path.stat()
    except OSError:
        return
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if not os.path.samestat((entry / link).stat(), wanted):
                continue
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue  # ended meanwhile, or not ours
        identity = ProcessIdentity.of(int(entry.name))
        if identity is not None:
            yield identity, words
