"""Logs of a guest's console and of a hypervisor's messages: files of bounded size, written by the VM's owner."""

from __future__ import annotations

import asyncio
import errno
import os
import re
from contextlib import suppress
from pathlib import Path

from vc_core.driver.files import read_regular
from vc_core.driver.rotating import RotatingFile, former

#: Bytes that one log keeps at most, in both its files together.
CAPACITY = 1024 * 1024

#: Bytes that one read takes.
_CHUNK = 65536
#: Bytes at the end of a log that are searched for its last lines.
_TAIL = 8192
#: Sequences that a terminal could execute, and characters without a glyph; the guest chooses what its console prints.
_UNPRINTABLE = r"\x1b\[[0-?]*[ -/]*[@-~]|[^\n -~\u00a1-\u2027\u2030-\u2065\u206a-\ud7ff]"


class ConsoleLog:
    """Copies what a descriptor yields to ``path``; a full file is renamed to ``path.1``, replacing the former one.

    ``capacity``: bytes of both files together, at most.
    """

    def __init__(self, path: Path, capacity: int = CAPACITY) -> None:
        self._path, self._capacity = path, capacity
        self._source = -1
        self._file: RotatingFile

    def start(self, source: int) -> None:
        """Copy from the descriptor ``source`` until it ends; this object closes it in any case.

        Called once, in the event loop that the copying then runs in. Raises OSError when the file cannot be opened.
        """
        try:
            self._file = RotatingFile(self._path, self._capacity)
        except OSError:
            os.close(source)
            raise
        self._source = source
        os.set_blocking(source, False)
        asyncio.get_running_loop().add_reader(source, self._read)

    async def send(self, data: bytes) -> None:
        """Write to the other end of the descriptor, which must be one for both directions: input of the console.

        Called in the event loop of :meth:`start`. Raises OSError, EPIPE after the end.
        """
        loop, view = asyncio.get_running_loop(), memoryview(data)
        while view:
            if self._source == -1:
                raise OSError(errno.EPIPE, os.strerror(errno.EPIPE))
            try:
                view = view[os.write(self._source, view) :]
            except BlockingIOError:
                writable, source = asyncio.Event(), self._source
                loop.add_writer(source, writable.set)
                try:
                    await writable.wait()
                finally:
                    loop.remove_writer(source)

    def drain(self) -> None:
        """Copy all that has arrived. Called when the VM's process has ended, so that nothing more arrives."""
        while self._read():
            pass

    def close(self) -> None:
        """Close the descriptor and the file, which stays. May be called again."""
        if self._source != -1:
            asyncio.get_running_loop().remove_reader(self._source)
            os.close(self._source)
            self._file.close()
            self._source = -1

    def _read(self) -> bool:
        """Copy one chunk; return whether more may have arrived."""
        if self._source == -1:
            return False
        try:
            data = os.read(self._source, _CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            data = b""  # the other end was closed with an error: as good as an end
        if data:
            self._write(data)
        else:
            self.close()
        return bool(data)

    def _write(self, data: bytes) -> None:
        with suppress(OSError):  # a full disk loses output, and does not stop the VM
            self._file.make_room(len(data))
            self._file.append(data)


def tail(path: Path, lines: int) -> str:
    """Return the last ``lines`` lines of the log at ``path`` that are not blank, without what a terminal could execute.

    Called for error messages and ``Hypervisor.console_tail``. Empty if there is no log.
    """
    data = b""
    for part in (former(path), path):
        with suppress(OSError):
            data += read_regular(part, _TAIL, max(0, part.lstat().st_size - _TAIL))
    text = re.sub(_UNPRINTABLE, "", data[-_TAIL:].decode(errors="replace").replace("\t", " "))
    return "\n".join([line.strip() for line in text.split("\n") if line.strip()][-lines:])


def discard(path: Path) -> None:
    """Remove the files of the log at ``path``. Called before a new VM starts. Raises OSError."""
    for part in (former(path), path):
        part.unlink(missing_ok=True)
