"""Who a process is, so that nobody else is ever signalled, and how to end it.

A pid alone is no identity: it is used again after the process ended. Identity here is pid, start time and boot id, and
signals go through a pidfd that was checked after it was opened. A zombie is dead.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path


def boot_id() -> str:
    """Return the id of the running boot of this host (proc(5), ``/proc/sys/kernel/random/boot_id``)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()


def _stat_fields(pid: int) -> list[str] | None:
    """Return the fields of ``/proc/PID/stat`` from the third (state) on, or None if there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the command's name in brackets: any bytes, spaces and brackets among them. The rest is ASCII.
    return stat[stat.rindex(b")") + 2 :].decode().split()


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


def supervisor_arguments(pod_id: str) -> list[str]:
    """Return the interpreter's arguments that start a pod's supervisor, without the number of its ready pipe.

    Called by the client that starts it, and by :func:`find_supervisors`.
    """
    return ["-P", "-m", "vc_core.supervisor", pod_id, "--ready"]


def find_supervisors(pod_id: str, log: Path) -> list[ProcessIdentity]:
    """Return the supervisors of a pod whose error output goes to the file ``log``, started by this user.

    Called by a forced delete, to kill a supervisor that does not answer. The argument vector must be that of a
    supervisor, word for word; the log tells apart the supervisors of two state roots that have a pod of the same id.
    """
    wanted = list(map(str.encode, supervisor_arguments(pod_id)))
    return list(_users_of(log, "fd/2", lambda words: words[1:-1] == wanted and words[-1].isdigit()))


def find_vms(run_dir: Path, pod_uuid: str) -> list[ProcessIdentity]:
    """Return the processes of a pod's VM: this user's, in the pod's run directory, with the pod's UUID as an argument.

    Called to find a VM whose creator died before it could record it. A hypervisor driver gives the VM's process
    ``run_dir`` as its working directory and ``PodContext.uuid`` as an argument, alone (``-uuid UUID``) or as the value
    of a name (``vc.uuid=UUID``). The pod's id is no such marker: people write it in arguments of their own programs.
    The UUID follows from the id, so the directory tells apart the VMs of two state roots.
    """
    marker = pod_uuid.encode()
    return list(_users_of(run_dir, "cwd", lambda words: any(word.rpartition(b"=")[2] == marker for word in words)))


def _users_of(path: Path, link: str, wanted: Callable[[list[bytes]], bool]) -> Iterator[ProcessIdentity]:
    """Yield every process of this user with ``wanted`` arguments whose ``/proc/PID/LINK`` is the file ``path``.

    The files themselves are compared, for their names differ between mount namespaces. The arguments come first: to
    follow the link of any process may take as long as its file server does.
    """
    try:
        file = path.stat()
    except OSError:
        return
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if not wanted(_arguments(entry)):
                continue
            # Pids are reused: all that follows is of one process if that lives in the end.
            identity = ProcessIdentity.of(int(entry.name))
            if not wanted(_arguments(entry)) or _user(entry) != os.geteuid():
                continue
            if not os.path.samestat((entry / link).stat(), file):
                continue
        except OSError:
            continue  # it has ended, or is another user's
        if identity is not None and identity.alive():
            yield identity


def _arguments(entry: Path) -> list[bytes]:
    """Return the arguments of a process (proc(5), ``/proc/PID/cmdline``). Raises OSError."""
    return (entry / "cmdline").read_bytes().removesuffix(b"\0").split(b"\0")


def _user(entry: Path) -> int:
    """Return the effective user id of a process (proc(5), ``/proc/PID/status``). Raises OSError."""
    uids = (entry / "status").read_bytes().partition(b"\nUid:")[2].split(maxsplit=4)
    return int(uids[1])
