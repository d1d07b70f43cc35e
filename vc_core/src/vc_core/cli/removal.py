"""``--rm``: the pod goes when its container has ended, also if virtc was killed before."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import vc_core

_DONE = b"d"


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

    def done(self) -> None:
        """Return when nothing stands by any more: the pod is gone, or was not made."""
        with suppress(BrokenPipeError):
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
    if os.read(reader, 1) == _DONE:
        return
    with suppress(vc_core.VCError):  # also that of a pod that was not started
        vc_core.wait_container(pod_id, container_id)
    with suppress(vc_core.VCError):
        vc_core.delete_pod(pod_id, force=True)
