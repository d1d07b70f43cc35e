"""How clients and supervisors talk: one JSON message per packet, descriptors beside it.

The socket is a unix socket of type SOCK_SEQPACKET, one connection per request:

1. the supervisor greets: ``{"supervisor": pid}``; a connection that ends before was never served: try again;
2. the client sends its request, ``{"op": name, ...}``, with descriptors in the order of the request's ``stdio``;
3. the supervisor sends any number of ``{"event": name, ...}``, then one ``{"result": value}`` or ``{"error": {...}}``;
4. meanwhile the client may send ``{"signal": n}`` and ``{"resize": {"rows": n, "columns": n}}``; closing its end
   withdraws the request.
"""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Sequence
from typing import Any

import msgspec

from vc_core.errors import StorageError, SupervisorError

#: Largest packet (bytes); the kernel's default for socket buffers is 208 KiB.
PACKET_MAX = 192 * 1024

#: Most descriptors in one request: stdin, stdout, stderr.
FDS_MAX = 3

#: File name of the supervisor's socket in the pod's run directory.
SOCKET_NAME = "supervisor.sock"

#: File name of the supervisor's log beside it.
LOG_NAME = "supervisor.log"


def send(sock: socket.socket, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
    """Send one message.

    Raises BlockingIOError when a non-blocking peer is behind, SupervisorError when the message is too long or holds
    text that is not in UTF-8.
    """
    try:
        data = msgspec.json.encode(message)
    except UnicodeEncodeError as error:
        raise SupervisorError(
            f"a message with the text {error.object!r}, which is not in UTF-8, is not sent"
        ) from error
    if len(data) > PACKET_MAX:
        raise SupervisorError(f"a message of {len(data)} bytes does not fit; {PACKET_MAX} at most")
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([data], ancillary, socket.MSG_NOSIGNAL)


def receive(sock: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """Return the next message, None at the end, and the descriptors that came with it, which the caller must close.

    Raises BlockingIOError when there is none yet, SupervisorError for nonsense.
    """
    numbers = array.array("i")
    size = socket.CMSG_SPACE(FDS_MAX * numbers.itemsize)
    data, ancillary, flags, _ = sock.recvmsg(PACKET_MAX, size, socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
    fds = list(numbers)
    if not data:
        return None, fds
    try:
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise SupervisorError("a message is too long")
        return msgspec.json.decode(data, type=dict[str, Any]), fds
    except (SupervisorError, msgspec.MsgspecError) as error:
        for fd in fds:
            os.close(fd)
        if isinstance(error, SupervisorError):
            raise
        raise SupervisorError(f"a message cannot be understood: {error}") from error


def listen(directory: int) -> socket.socket:
    """Return a listening socket in the directory that is open as ``directory``. Raises StorageError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        sock.bind(socket_path(directory))
        sock.listen(1024)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise StorageError(f"the supervisor's socket cannot be made: {error.strerror}") from error
    return sock


def socket_path(directory: int) -> str:
    """Return a path for bind and connect that is never too long for a socket address (108 bytes, unix(7))."""
    return f"/proc/self/fd/{directory}/{SOCKET_NAME}"
