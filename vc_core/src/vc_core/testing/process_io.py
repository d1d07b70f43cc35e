"""A ProcessIO for tests: input from memory, output into memory."""

from __future__ import annotations

import asyncio

from vc_core.agent import ProcessIO


class RecordedIO(ProcessIO):
    """Gives ``stdin`` in pieces, then its end, and keeps the output.

    Output is taken while ``flowing`` is set. ``stdin`` None is an input that never ends.
    """

    def __init__(self, stdin: bytes | None = b"", *, piece: int = 65536, stalled: bool = False) -> None:
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.flowing = asyncio.Event()
        if not stalled:
            self.flowing.set()
        self._stdin = stdin
        self._piece = piece
        self._changed = asyncio.Event()

    async def read_stdin(self) -> bytes:
        """Return the next piece."""
        if self._stdin is None:
            await asyncio.Event().wait()
        assert self._stdin is not None
        piece, self._stdin = self._stdin[: self._piece], self._stdin[self._piece :]
        return piece

    async def write_stdout(self, data: bytes) -> None:
        """Keep output, once it flows."""
        await self.flowing.wait()
        self.stdout += data
        self._changed.set()

    async def write_stderr(self, data: bytes) -> None:
        """Keep error output, once it flows."""
        await self.flowing.wait()
        self.stderr += data
        self._changed.set()

    async def until(self, size: int) -> bytes:
        """Return the output once it has that many bytes. The caller sets the deadline."""
        while len(self.stdout) < size:
            self._changed.clear()
            await self._changed.wait()
        return bytes(self.stdout)
