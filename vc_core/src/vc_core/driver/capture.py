"""What a guest's console and its hypervisor say, kept in files that cannot grow without bound: for drivers."""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import suppress
from pathlib import Path

from vc_core.driver.rotating import RotatingFile, former

#: Bytes that one capture keeps at most, in both its files together.
CAPACITY = 1024 * 1024

_CHUNK = 65536
#: Bytes that are looked at for the last lines.
_TAIL = 8192
#: What a terminal could take for a command, and what has no glyph; the console is the guest's to write.
_UNPRINTABLE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[^\n -~\u00a1-\u2027\u2030-\u2065\u206a-\ud7ff]")


class Capture:
    """Copies a stream to ``path``; a full file becomes ``path.1`` in place of the one before."""

    def __init__(self, path: Path, capacity: int = CAPACITY) -> None:
        self._path, self._capacity = path, capacity
        self._source = -1
        self._file: RotatingFile

    def start(self, source: int) -> None:
        """Read the descriptor ``source`` until it ends; it is used up in any case. Called once, in the event loop.

        Raises OSError when the file cannot be opened.
        """
        try:
            self._file = RotatingFile(self._path, self._capacity)
        except OSError:
            os.close(source)
            raise
        self._source = source
        os.set_blocking(source, False)
        asyncio.get_running_loop().add_reader(source, self._take)

    def drain(self) -> None:
        """Take all that has arrived. Called when the other side has ended."""
        while self._take():
            pass

    def close(self) -> None:
        """Stop; the files stay."""
        if self._source != -1:
            asyncio.get_running_loop().remove_reader(self._source)
            os.close(self._source)
            self._file.close()
            self._source = -1

    def _take(self) -> bool:
        """Take one piece of what has arrived; return whether there may be more."""
        if self._source == -1:
            return False
        try:
            data = os.read(self._source, _CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            data = b""  # the other side has gone: as good as an end
        if data:
            self._keep(data)
        else:
            self.close()
        return bool(data)

    def _keep(self, data: bytes) -> None:
        with suppress(OSError):  # a full disk costs the log, not the VM
            self._file.make_room(len(data))
            self._file.append(data)


def tail(path: Path, lines: int) -> str:
    """Return the last lines of a capture that hold anything, fit for a terminal."""
    data = b""
    for part in (former(path), path):
        with suppress(OSError), part.open("rb") as file:
            file.seek(max(0, part.stat().st_size - _TAIL))
            data += file.read(_TAIL)
    text = _UNPRINTABLE.sub("", data[-_TAIL:].decode(errors="replace").replace("\t", " "))
    return "\n".join([line.strip() for line in text.split("\n") if line.strip()][-lines:])


def discard(path: Path) -> None:
    """Remove what an earlier VM's capture left. Called before a new VM starts."""
    for part in (former(path), path):
        part.unlink(missing_ok=True)
