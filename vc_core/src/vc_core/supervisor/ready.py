"""What a supervisor says once to the client that started it, through a pipe: ``ok``, ``busy``, or an error."""

from __future__ import annotations

import os
from contextlib import suppress

import msgspec

from vc_core.errors import VCError

OK, BUSY = b"ok", b"busy"


def tell(fd: int, what: bytes) -> None:
    """Say it and close the pipe; a client that has gone is no concern of the pod."""
    with suppress(BrokenPipeError):
        os.write(fd, what)
    os.close(fd)


def tell_error(fd: int, error: VCError) -> None:
    """Say why there will be no supervisor."""
    tell(fd, msgspec.json.encode(error.to_wire()))
