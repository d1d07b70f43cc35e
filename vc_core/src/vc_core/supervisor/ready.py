"""What a new supervisor reads from its starter, ``go``, and what it writes to it once: ``ok``, ``busy`` or an error."""

from __future__ import annotations

import os
from contextlib import suppress

import msgspec

from vc_core.errors import VCError

OK, BUSY = b"ok", b"busy"

#: The line of a supervisor's standard input after which it serves. Before it there may be an ``Early``.
GO = b"go\n"

#: Seconds that a supervisor may take to get ready. Then it ends by itself: its starter, which waits for a shorter time
#: and kills it, was killed.
READY_TIMEOUT = 30


def send_status(fd: int, status: bytes) -> None:
    """Write the message and close the pipe. A client that has gone is ignored: the pod does not depend on it."""
    with suppress(BrokenPipeError):
        os.write(fd, status)
    os.close(fd)


def send_error(fd: int, error: VCError) -> None:
    """Write why the supervisor cannot serve, and close the pipe."""
    send_status(fd, msgspec.json.encode(error.to_wire()))
