"""What the host sends to a guest of the pod's own before its SSH daemon starts; ``wake/wake.c`` receives it there.

A message has the time in nanoseconds, entropy, the sizes of two files, and the files: the daemon's private key and the
keys that may log in. Without files the guest goes on waiting: it is to be saved, and its clones get theirs. The guest
answers with one line.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct
import time

from vc_core.driver import Channel, OpenChannel
from vc_core.errors import AgentConnectError, AgentTimeoutError

#: The virtio port on which the guest waits.
CHANNEL = Channel("wake", "org.virtcontainers.wake.0")

#: Time, entropy and the sizes of both files.
_HEADER = struct.Struct(">Q64sII")

#: Most bytes of an answer.
_ANSWER_MAX = 1024


async def send(what: str, open_channel: OpenChannel, timeout: float, files: tuple[bytes, bytes] = (b"", b"")) -> None:
    """Send a guest the time, entropy and files, and return once it has used them. ``what`` names it in errors.

    Called when the guest boots or was cloned; it need not listen yet. ``timeout`` is in seconds. Raises
    AgentConnectError, AgentTimeoutError, and what ``open_channel`` raises.
    """
    try:
        async with asyncio.timeout(timeout):
            answer = await _exchange(await open_channel(CHANNEL.name), files)
    except TimeoutError as error:
        raise AgentTimeoutError(f"{what} did not take its keys within {timeout:g} s") from error
    except OSError as error:
        raise AgentConnectError(f"{what} did not take its keys: {error}") from error
    except ValueError as error:  # of asyncio, for a line beyond its limit
        raise AgentConnectError(f"{what} did not take its keys: its answer is not a line") from error
    if answer != b"ok\n":
        reason = answer.decode(errors="replace").strip() or "it closed the channel"
        raise AgentConnectError(f"{what} did not take its keys: {reason}")


async def _exchange(sock: socket.socket, files: tuple[bytes, bytes]) -> bytes:
    reader, writer = await asyncio.open_connection(sock=sock, limit=_ANSWER_MAX)
    try:
        header = _HEADER.pack(time.time_ns(), secrets.token_bytes(64), *map(len, files))
        writer.write(header + b"".join(files))
        return await reader.readline()
    finally:
        writer.close()
