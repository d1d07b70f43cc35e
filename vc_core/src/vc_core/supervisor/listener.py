"""The socket on which a supervisor accepts its clients: made anew when something removed it, and never out of room."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress

from vc_core import failpoints
from vc_core.errors import BusyError, StorageError
from vc_core.store.store import Store
from vc_core.supervisor import wire
from vc_core.supervisor.messages import Failure

#: Errors of accept(2) for a process or a host that has no descriptor left.
_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)


class Listener:
    """The listening socket in a pod's run directory. Made with the pod's lock held.

    A socket that is there already was left by a dead supervisor: a live one would hold the lock.
    """

    def __init__(self, store: Store, pod_id: str) -> None:
        """Make the socket, and the run directory if there is none. Raises StorageError."""
        self._store, self._pod_id = store, pod_id
        self._socket = self._make()
        #: A descriptor to close when there is no other, so that a client can be accepted and refused.
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _make(self) -> socket.socket:
        run_dir = self._store.make_run_dir(self._pod_id)
        self._path = run_dir / wire.SOCKET_NAME
        directory = os.open(run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            self._path.unlink(missing_ok=True)
            made = wire.listen(directory)
            failpoints.reach("supervisor.socket.made")
            self._status = os.stat(wire.SOCKET_NAME, dir_fd=directory, follow_symlinks=False)
            return made
        except OSError as error:
            raise StorageError(f"socket {str(self._path)!r} cannot be made: {error.strerror}") from error
        finally:
            os.close(directory)

    def fileno(self) -> int:
        """Return the descriptor of the socket, which changes when it is made anew."""
        return self._socket.fileno()

    @property
    def reachable(self) -> bool:
        """Whether clients find the socket: whether its path still names it."""
        try:
            return os.path.samestat(self._path.lstat(), self._status)
        except OSError:
            return False

    def renew(self) -> None:
        """Make the socket and its directory anew. Raises StorageError; the old socket is kept then.

        A client that is in the queue of the old one gets no greeting, and connects again.
        """
        old, self._socket = self._socket, self._make()
        old.close()

    def accept(self, room: bool) -> socket.socket | None:
        """Return a client's connection; None if there is none, or it was refused. Called when the socket is readable.

        ``room``: whether there are descriptors for one more client. Raises OSError when none can even be refused.
        """
        try:
            sock, _ = self._socket.accept()
        except OSError as error:
            if error.errno not in _NO_DESCRIPTOR:
                return None
            os.close(self._spare)
            try:
                sock, _ = self._socket.accept()
                self._refuse(sock)
            finally:
                self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            return None
        if room:
            return sock
        self._refuse(sock)
        return None

    def _refuse(self, sock: socket.socket) -> None:
        error = BusyError(f"the supervisor of pod {self._pod_id!r} has too many clients; try again")
        with suppress(OSError):
            wire.send(sock, Failure.of(error))
        sock.close()

    def close(self) -> None:
        """Remove the socket's file, unless another one has its name, and close the socket."""
        if self.reachable:
            self._path.unlink(missing_ok=True)
        self._socket.close()
        os.close(self._spare)
