"""Finds the supervisors and VMs of a pod among the processes of this host."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from vc_core.driver.process import ProcessIdentity


def supervisor_arguments(pod_id: str) -> list[str]:
    """Return the interpreter's arguments that start a pod's supervisor, without the number of its ready pipe.

    Called by the client that starts it, and by the functions below, which find it.
    """
    return ["-P", "-m", "vc_core.supervisor", pod_id, "--ready"]


def find_supervisors(pod_id: str, log: Path, lock: Path) -> list[ProcessIdentity]:
    """Return the supervisors of a pod, started by this user, whether they are ready or not.

    Called by a forced delete, to kill a supervisor that does not answer. The argument vector must be that of a
    supervisor, word for word; its error output goes to the file ``log``, or it has the file ``lock`` open. These
    distinguish supervisors of pods of the same id in two state roots.
    """
    wanted = _arguments_of_supervisor(pod_id)

    def is_supervisor(words: list[bytes]) -> bool:
        return words[1:-1] == wanted and words[-1].isdigit()

    def uses(entry: Path, _: list[bytes]) -> bool:
        return _is_same(entry / "fd/2", log) or _has_open(entry, lock)

    return list(_processes(is_supervisor, uses))


def find_starting_supervisor(pod_id: str, ready: int) -> list[ProcessIdentity]:
    """Return the supervisor of a pod that this process started with a ready pipe, from which it reads at ``ready``.

    Called by the starter when it gives up, to kill the supervisor. The process has the other end of the pipe open.
    """
    pipe, wanted = os.fstat(ready), _arguments_of_supervisor(pod_id)

    def starts(words: list[bytes]) -> bool:  # its launchers, unshare(1) or nsenter(1), have them as their last ones
        return words[-len(wanted) - 1 : -1] == wanted and words[-1].isdigit()

    def has_end(entry: Path, words: list[bytes]) -> bool:
        return os.path.samestat((entry / "fd" / words[-1].decode()).stat(), pipe)

    return list(_processes(starts, has_end))


def _arguments_of_supervisor(pod_id: str) -> list[bytes]:
    return [argument.encode() for argument in supervisor_arguments(pod_id)]


def find_vms(run_dir: Path, pod_uuid: str) -> list[ProcessIdentity]:
    """Return the processes of a pod's VM: this user's, in the pod's run directory, with the pod's UUID as an argument.

    Called to find a VM whose creator died before it could record it. A hypervisor driver gives the VM's process
    ``run_dir`` as its working directory and ``PodContext.uuid`` as an argument, alone (``-uuid UUID``) or as the value
    of a name (``vc.uuid=UUID``). The pod's id is no such marker: people write it in arguments of their own programs.
    The UUID follows from the id, so the directory distinguishes VMs of pods of the same id in two state roots.
    """
    marker = pod_uuid.encode()

    def is_vm(words: list[bytes]) -> bool:
        return any(word.rpartition(b"=")[2] == marker for word in words)

    return list(_processes(is_vm, lambda entry, _: _is_same(entry / "cwd", run_dir)))


def _processes(
    wanted: Callable[[list[bytes]], bool], uses: Callable[[Path, list[bytes]], bool]
) -> Iterator[ProcessIdentity]:
    """Yield every process of this user with ``wanted`` arguments that ``uses`` a file, given ``/proc/PID`` and them.

    The arguments are examined first, because following a link of a process may take as long as its file server does.
    """
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if not wanted(_arguments(entry)):
                continue
            # Pids are reused: all that follows is about one process if that is alive after it.
            identity = ProcessIdentity.of(int(entry.name))
            words = _arguments(entry)
            if not wanted(words) or _user(entry) != os.geteuid() or not uses(entry, words):
                continue
        except OSError:
            continue  # it has ended, or is another user's
        if identity is not None and identity.alive():
            yield identity


def _is_same(link: Path, path: Path) -> bool:
    """Return whether a link of ``/proc/PID`` leads to the file ``path``; names differ between mount namespaces."""
    try:
        return os.path.samestat(link.stat(), path.stat())
    except OSError:
        return False


def _has_open(entry: Path, path: Path) -> bool:
    """Return whether a process has the file ``path`` open. Raises OSError when the process has ended.

    The last part of the name is the same in all mount namespaces; only files that have it are examined.
    """
    for link in (entry / "fd").iterdir():
        try:
            name = link.readlink().name
        except OSError:  # closed meanwhile
            continue
        if name == path.name and _is_same(link, path):
            return True
    return False


def _arguments(entry: Path) -> list[bytes]:
    """Return the arguments of a process (proc(5), ``/proc/PID/cmdline``). Raises OSError."""
    return (entry / "cmdline").read_bytes().removesuffix(b"\0").split(b"\0")


def _user(entry: Path) -> int:
    """Return the effective user id of a process (proc(5), ``/proc/PID/status``). Raises OSError."""
    uids = (entry / "status").read_bytes().partition(b"\nUid:")[2].split(maxsplit=4)
    return int(uids[1])
