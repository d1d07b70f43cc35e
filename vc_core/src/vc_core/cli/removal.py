"""``--rm``: the pod goes when its container has ended, also if virtc was killed before."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import vc_core

#: What is written to the process: that the pod was made by this virtc, and that it is gone.
_CREATED, _DONE = b"c", b"d"


class Removal:
    """A process that stands by until this one has removed a pod, and removes it if this one ends before.

    It is a fork, so that it costs next to nothing, and has to be made before this process has threads.
    """

    def __init__(self, pod_id: str, container_id: str) -> None:
        """Begin to stand by, before the pod is made. Raises OSError."""
        reader, self._writer = os.pipe2(os.O_CLOEXEC)
        self._pid = os.fork()
        if self._pid == 0:
            try:
                _stand_by(reader, pod_id, container_id)
            finally:
                os._exit(0)
        os.close(reader)

    def created(self) -> None:
        """Note that the pod was made: one of the same id that was there before is not removed."""
        os.write(self._writer, _CREATED)

    def done(self) -> None:
        """Return when nothing stands by any more: the pod is gone, or was not made."""
        os.write(self._writer, _DONE)
        os.close(self._writer)
        os.waitpid(self._pid, 0)

    def leave(self) -> None:
        """Let the pod be removed when its container has ended, though this process ends."""
        os.close(self._writer)


def _stand_by(reader: int, pod_id: str, container_id: str) -> None:
    os.setsid()  # what is typed on the terminal is not meant for this process
    with Path(os.devnull).open("r+b", buffering=0) as null:
        for fd in range(3):
            os.dup2(null.fileno(), fd)
    os.closerange(3, reader)  # nobody waits for this process, as for the end of what virtc writes
    os.closerange(reader + 1, os.sysconf("SC_OPEN_MAX"))
    noted = b""
    while part := os.read(reader, 2):
        noted += part
    if noted != _CREATED:
        return
    with suppress(vc_core.VCError):  # also that of a pod that was not started
        vc_core.wait_container(pod_id, container_id)
    with suppress(vc_core.VCError):
        vc_core.delete_pod(pod_id, force=True)
