"""A ProcessIO for tests: input from memory, output into memory."""

from __future__ import annotations

import asyncio

from vc_core.driver.agent import ProcessIO


class RecordedIO(ProcessIO):
    """Returns ``stdin`` in pieces, then the end of file, and keeps the output.

    With ``stdin`` None the input is the data of :meth:`give`, without an end until :meth:`end`. Writes block until
    ``flowing`` is set.
    """

    def __init__(self, stdin: bytes | None = b"", *, piece: int = 65536, stalled: bool = False) -> None:
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.flowing = asyncio.Event()
        if not stalled:
            self.flowing.set()
        self._stdin = memoryview(stdin or b"")
        self._endless = stdin is None
        self._piece = piece
        self._changed = asyncio.Event()

    def give(self, data: bytes) -> None:
        """Add input."""
        self._stdin = memoryview(bytes(self._stdin) + data)
        self._changed.set()

    def end(self) -> None:
        """Let the input end behind what was given."""
        self._endless = False
        self._changed.set()

    async def read_stdin(self) -> bytes:
        """Return the next piece of the input, b"" at its end."""
        while self._endless and not self._stdin:
            await self._change()
        piece, self._stdin = self._stdin[: self._piece], self._stdin[self._piece :]
        return bytes(piece)

    async def write_stdout(self, data: bytes) -> None:
        """Keep output once ``flowing`` is set."""
        await self.flowing.wait()
        self.stdout += data
        self._changed.set()

    async def write_stderr(self, data: bytes) -> None:
        """Keep error output once ``flowing`` is set."""
        await self.flowing.wait()
        self.stderr += data
        self._changed.set()

    async def until(self, size: int) -> bytes:
        """Return the output once it holds ``size`` bytes. The caller sets the timeout."""
        while len(self.stdout) < size:
            await self._change()
        return bytes(self.stdout)

    async def until_text(self, text: bytes) -> None:
        """Return once the output contains ``text``. The caller sets the timeout."""
        while text not in self.stdout:
            await self._change()

    async def until_error(self, text: bytes) -> None:
        """Return once the error output contains ``text``. The caller sets the timeout."""
        while text not in self.stderr:
            await self._change()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()
