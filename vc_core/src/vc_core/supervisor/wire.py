"""How clients and supervisors exchange messages: one in JSON per packet, descriptors beside it.

The socket is a unix socket of type SOCK_SEQPACKET, usually with one connection per request:

1. the supervisor sends a Greeting; a connection that ends before was never served: try again;
2. the client sends its Request, with descriptors for those of its streams that it passes; it is read after the Greeting
   was sent, for which the client need not wait;
3. the supervisor sends any number of Events, then one Answer or Failure;
4. meanwhile the client may send Signals and Resizes; closing its end withdraws the request;
5. a request that said so may be followed by another, of which the supervisor sends a Greeting once it has read it.

A message that is too long for a packet, such as a command with long arguments, is in a sealed file in memory
(memfd_create(2)), whose descriptor comes before the others; the packet is then the byte 0, which is no JSON.
"""

from __future__ import annotations

import array
import fcntl
import os
import socket
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from vc_core.errors import StorageError, SupervisorError
from vc_core.supervisor.messages import Message

_T = TypeVar("_T")

#: Largest packet (bytes); the kernel's default for socket buffers is 208 KiB.
PACKET_MAX = 192 * 1024

#: Longest message (bytes): a command of the most bytes, each of which takes 6 in JSON, and as much for all the rest.
MESSAGE_MAX = 2 * 1024 * 1024

#: The packet of a message that is in a file.
_IN_FILE = b"\0"

#: The seals of such a file. The receiver checks them: no process can change the content while the receiver reads it.
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE

#: Most descriptors in one message (SCM_MAX_FD in Linux' net/scm.h).
FDS_MAX = 253

#: Most of them that are sources of a container; the others are stdin, stdout, stderr and the file of a long message.
SOURCES_MAX = FDS_MAX - 4

#: File name of the supervisor's socket in the pod's run directory.
SOCKET_NAME = "supervisor.sock"

#: File name of the supervisor's log beside it.
LOG_NAME = "supervisor.log"

_encoder = msgspec.json.Encoder()


def send(sock: socket.socket, message: Message, fds: Sequence[int] = ()) -> None:
    """Send one message.

    Raises BlockingIOError when the receiver of a non-blocking socket is behind, OSError when it has closed its end,
    SupervisorError when the message is too long or holds text that is not in UTF-8.
    """
    try:
        data = _encoder.encode(message)
    except UnicodeEncodeError as error:
        raise SupervisorError(
            f"a message with the text {error.object!r}, which is not in UTF-8, is not sent"
        ) from error
    if len(data) <= PACKET_MAX:
        _send_packet(sock, data, fds)
        return
    if len(data) > MESSAGE_MAX:
        raise SupervisorError(f"a message of {len(data)} bytes does not fit; {MESSAGE_MAX} at most")
    file = _sealed_file(data)
    try:
        _send_packet(sock, _IN_FILE, [file, *fds])
    finally:
        os.close(file)


def _send_packet(sock: socket.socket, data: bytes, fds: Sequence[int]) -> None:
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([data], ancillary, socket.MSG_NOSIGNAL)


def _sealed_file(data: bytes) -> int:
    """Return a descriptor of a sealed file in memory with this content. Raises SupervisorError."""
    try:
        file = os.memfd_create("message", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            written = 0
            while written < len(data):
                written += os.write(file, data[written:])
            fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)
        except OSError:
            os.close(file)
            raise
    except OSError as error:  # not that of a peer that has gone
        raise SupervisorError(f"a message of {len(data)} bytes cannot be sent: {error.strerror}") from error
    return file


def _read_sealed(file: int) -> bytes:
    """Return the content of a sealed file, which is read without blocking. Raises SupervisorError for another file."""
    try:
        sealed = fcntl.fcntl(file, fcntl.F_GET_SEALS) & _SEALS == _SEALS
    except OSError:  # a file of another kind has no seals
        sealed = False
    if not sealed or os.fstat(file).st_size > MESSAGE_MAX:
        raise SupervisorError("a message is in a file that is not sealed, or too long")
    return os.pread(file, MESSAGE_MAX, 0)


def receive(sock: socket.socket, decode: Callable[[bytes], _T]) -> tuple[_T | None, list[int]]:
    """Return the next message, None at the end, and the descriptors that came with it, which the caller must close.

    ``decode`` makes the message of JSON; it raises MsgspecError. Raises BlockingIOError when there is no message yet,
    OSError when the sender reset the connection, SupervisorError for a packet that is not such a message.
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
        if flags & socket.MSG_TRUNC:
            raise SupervisorError("a message is too long")
        if flags & socket.MSG_CTRUNC:
            raise SupervisorError("the descriptors of a message did not arrive; too many files are open")
        if data == _IN_FILE and fds:
            data = _read_sealed(fds[0])
            os.close(fds.pop(0))
        return decode(data), fds
    except (SupervisorError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        for fd in fds:
            os.close(fd)
        if isinstance(error, SupervisorError):
            raise
        raise SupervisorError(
            f"a message is not valid: {error}; client and supervisor may be of different versions"
        ) from error


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
