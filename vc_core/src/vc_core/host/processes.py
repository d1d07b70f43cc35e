"""Finds the supervisors and VMs of a pod among the processes of this host."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from vc_core.driver.process import ProcessIdentity


def supervisor_arguments(pod_id: str) -> list[str]:
    """Return the interpreter's arguments that start a pod's supervisor, without the number of its ready pipe.

    Called by the client that starts it, and by :func:`find_supervisors`.
    """
    return ["-P", "-m", "vc_core.supervisor", pod_id, "--ready"]


def find_supervisors(pod_id: str, log: Path) -> list[ProcessIdentity]:
    """Return the supervisors of a pod whose error output goes to the file ``log``, started by this user.

    Called by a forced delete, to kill a supervisor that does not answer. The argument vector must be that of a
    supervisor, word for word; the log distinguishes supervisors of pods of the same id in two state roots.
    """
    wanted = list(map(str.encode, supervisor_arguments(pod_id)))
    return list(_users_of(log, "fd/2", lambda words: words[1:-1] == wanted and words[-1].isdigit()))


def find_vms(run_dir: Path, pod_uuid: str) -> list[ProcessIdentity]:
    """Return the processes of a pod's VM: this user's, in the pod's run directory, with the pod's UUID as an argument.

    Called to find a VM whose creator died before it could record it. A hypervisor driver gives the VM's process
    ``run_dir`` as its working directory and ``PodContext.uuid`` as an argument, alone (``-uuid UUID``) or as the value
    of a name (``vc.uuid=UUID``). The pod's id is no such marker: people write it in arguments of their own programs.
    The UUID follows from the id, so the directory distinguishes VMs of pods of the same id in two state roots.
    """
    marker = pod_uuid.encode()
    return list(_users_of(run_dir, "cwd", lambda words: any(word.rpartition(b"=")[2] == marker for word in words)))


def _users_of(path: Path, link: str, wanted: Callable[[list[bytes]], bool]) -> Iterator[ProcessIdentity]:
    """Yield every process of this user with ``wanted`` arguments whose ``/proc/PID/LINK`` is the file ``path``.

    The files themselves are compared, because their names differ between mount namespaces. The arguments are compared
    first, because following the link of a process may take as long as its file server does.
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
            # Pids are reused: all that follows is about one process if that is alive after it.
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
