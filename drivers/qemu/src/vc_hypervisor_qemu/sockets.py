"""Unix sockets to QEMU: made before QEMU starts, which inherits them, so that no process waits for one to appear."""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vc_core.errors import HypervisorError, VMStartError

#: struct ucred of socket(7): pid, uid, gid.
_UCRED = struct.Struct("3i")


def listen(path: Path) -> socket.socket:
    """Return a listening socket at ``path``, for QEMU to inherit; only this user can connect to it.

    A socket there that no process listens on is replaced. Raises VMStartError.
    """
    try:
        remove_stale(path)
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            os.fchmod(server.fileno(), 0o600)  # the mode of the file that bind makes
            with _short(path) as name:
                server.bind(name)
            server.listen(1)
        except BaseException:
            server.close()
            raise
    except OSError as error:
        raise VMStartError(f"socket {str(path)!r} cannot be made: {error.strerror}") from error
    return server


def connect(path: Path, pid: int) -> socket.socket:
    """Return a non-blocking socket connected to ``path``, where the QEMU process ``pid`` must listen.

    Until QEMU calls listen(2) on a socket that it inherited, the kernel names this process as its owner, which made it.
    Raises HypervisorError.
    """
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        client.setblocking(False)
        with _short(path) as name:
            client.connect(name)
        peer = _UCRED.unpack(client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))[0]
        if peer not in (pid, os.getpid()):
            raise HypervisorError(f"socket {str(path)!r} belongs to process {peer}, which is not the pod's QEMU")
    except BaseException as error:
        client.close()
        if not isinstance(error, OSError):
            raise
        why = "too many connections wait for QEMU" if isinstance(error, BlockingIOError) else error.strerror
        raise HypervisorError(f"socket {str(path)!r} cannot be connected to: {why}") from error
    return client


def remove_stale(path: Path) -> None:
    """Remove a socket that no process listens on, if there is one. Raises OSError if ``path`` is anything else."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(17, "there is a file of that name")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, _short(path) as name:
        probe.setblocking(False)
        try:
            probe.connect(name)
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:
            pass  # its queue is full: a process listens
    raise FileExistsError(17, "a process listens there")


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """Yield a name of ``path`` that fits into a socket address (107 bytes, unix(7)), for a ``path`` of any length."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
