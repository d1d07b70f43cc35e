"""Encodes and decodes the frames of the hyperstart protocol, without I/O.

Both channels carry frames of a big-endian header and a payload; the header's last word is the length of the whole
frame, header included. On the control channel the header is ``u32 code, u32 length``, on the stream channel
``u64 sequence, u32 length`` (hyperstart, ``src/api.h``). Sequence 0 is this project's: a :class:`StreamControl`. The
layout of its payload, and of the sync marker, is in ``docs/reference/guest-protocol.md``.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from enum import IntEnum
from struct import Struct

from vc_core.driver import frozen
from vc_core.errors import AgentProtocolError

#: Called with the first word of a frame's header (code or sequence) and its payload.
OnFrame = Callable[[int, bytes], None]


class Code(IntEnum):
    """Control frame codes: hyperstart's ``src/api.h``, and from 4096 on this project's (guest-protocol.md)."""

    GETVERSION = 0
    STARTPOD = 1
    GETPOD = 2
    STOPPOD = 3  #: every guest answers ERROR
    DESTROYPOD = 4
    RESTARTCONTAINER = 5  #: every guest answers ERROR
    EXECCMD = 6
    CMDFINISHED = 7  #: neither side sends it
    READY = 8
    ACK = 9
    ERROR = 10
    WINSIZE = 11
    PING = 12
    PODFINISHED = 13
    NEXT = 14
    WRITEFILE = 15
    READFILE = 16
    NEWCONTAINER = 17
    KILLCONTAINER = 18
    ONLINECPUMEM = 19
    SETUPINTERFACE = 20
    SETUPROUTE = 21
    REMOVECONTAINER = 22
    PROCESSASYNCEVENT = 23
    SIGNALPROCESS = 24
    DELETEINTERFACE = 25
    HELLO = 4096
    SIGNAL = 4097
    STATS = 4098
    WAKE = 4099
    TIMES = 4100
    SYSCTLS = 4101
    FREEZE = 4102
    UPDATE = 4103
    CLOCK = 4104


@frozen
class FrameFormat:
    """The format of one channel's frames: its name, its header, and the longest frame that is accepted (bytes)."""

    name: str
    header: Struct
    limit: int

    def encode(self, key: int, payload: bytes | memoryview = b"") -> bytes:
        """Return a frame. ``key`` is the code or sequence. The caller checks ``limit``."""
        return b"".join((self.header.pack(key, self.header.size + len(payload)), payload))


CONTROL = FrameFormat("control", Struct(">II"), 1024 * 1024)
STREAM = FrameFormat("stream", Struct(">QI"), 64 * 1024)


class FrameDecoder:
    """Decodes the bytes of one direction of a channel, in pieces of any size, into frames.

    Buffers one incomplete frame at most. After an error each later call raises it again: the next frame's boundary
    cannot be found.
    """

    def __init__(self, frame_format: FrameFormat, on_frame: OnFrame) -> None:
        self._format = frame_format
        self._on_frame = on_frame
        self._rest = bytearray()
        self._failure: str | None = None

    @property
    def kept(self) -> int:
        """Bytes of the incomplete frame that are buffered: less than the format's limit."""
        return len(self._rest)

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Decode the next bytes and call ``on_frame`` for every frame that they complete.

        Raises AgentProtocolError for a length that no frame can have, and again at every later call.
        """
        if self._failure is not None:
            raise AgentProtocolError(self._failure)
        rest, header = self._rest, self._format.header
        try:
            if rest:
                rest += data
                with memoryview(rest) as view:
                    used = self._parse(view, header)
                del rest[:used]
            else:
                with memoryview(data) as view:
                    used = self._parse(view, header)
                    rest += view[used:]
        except AgentProtocolError:
            rest.clear()
            raise

    def _parse(self, view: memoryview, header: Struct) -> int:
        """Call ``on_frame`` for the complete frames at the start of ``view``; return the number of bytes used."""
        start, end, limit = 0, len(view), self._format.limit
        while end - start >= header.size:
            key, length = header.unpack_from(view, start)
            if not header.size <= length <= limit:
                self._failure = (
                    f"the guest sent a {self._format.name} frame of length {length}; "
                    f"it must be {header.size} to {limit}, so the channel cannot be read any further"
                )
                raise AgentProtocolError(self._failure)
            if end - start < length:
                break
            self._on_frame(key, bytes(view[start + header.size : start + length]))
            start += length
        return start


class StreamControlType(IntEnum):
    """Types of stream control frames (guest-protocol.md, Credit)."""

    CREDIT = 1
    RELEASE = 2
    RESUME = 3
    CLOSE = 4


_STREAM_CONTROL = Struct(">BQQ")


@frozen
class StreamControl:
    """The payload of a stream frame with sequence 0."""

    type: StreamControlType
    stream: int
    value: int = 0

    def encode(self) -> bytes:
        """Return the whole stream frame."""
        return STREAM.encode(0, _STREAM_CONTROL.pack(self.type, self.stream, self.value))

    @classmethod
    def decode(cls, payload: bytes) -> StreamControl:
        """Return a decoded payload. Raises AgentProtocolError."""
        if len(payload) != _STREAM_CONTROL.size:
            raise AgentProtocolError(
                f"the guest sent a stream control frame with {len(payload)} bytes of payload; "
                f"it must have {_STREAM_CONTROL.size}"
            )
        number, stream, value = _STREAM_CONTROL.unpack(payload)
        try:
            return cls(StreamControlType(number), stream, value)
        except ValueError:
            raise AgentProtocolError(f"the guest sent a stream control frame of the unknown type {number}") from None


_SYNC_MAGIC = b"\xffVCSYNC\x00\xff"


def sync_marker(token: bytes) -> bytes:
    """Return a marker to take over a channel of the guest whose HELLO had ``token`` (16 bytes); new at each call."""
    return _SYNC_MAGIC + token + secrets.token_bytes(8)


class SyncScanner:
    """Finds the guest's echo of a sync marker behind what the guest sent to a former host."""

    def __init__(self, marker: bytes) -> None:
        self._marker = marker
        self._tail = b""

    def feed(self, data: bytes | bytearray | memoryview) -> bytes | None:
        """Search the next bytes; return what follows the marker once it was found, None until then."""
        seen = self._tail + data
        found = seen.find(self._marker)
        if found < 0:
            self._tail = seen[-(len(self._marker) - 1) :]
            return None
        return seen[found + len(self._marker) :]
