"""The host's side of the VMs under observation: their files, and what the host can see of them."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from contextlib import suppress
from pathlib import Path

from vc_core.testing.slowness import scaled

#: The guest's address and that of the user network's gateway, which are no hypervisor's own; a port of the guest, and
#: what the guest says to those who connect to it.
ADDRESS, GATEWAY, PORT, GREETING = "10.9.0.15", "10.9.0.2", 2280, "from-the-guest"

#: The name of the channel on which guests are asked.
MAIN = "org.contract.0"

#: The id of the disk that is attached to the running VM.
LATE_DISK = "late"

_DISK_SIZE = 1 << 20

#: Bytes of the disk that the header of the image claims.
IMAGE_CLAIMS = 64 << 20


class Scene:
    """Files below ``directory``, made at once: shared directories with a marker each, disks with bytes of their own."""

    def __init__(self, directory: Path, mark: str = "mark-of-the-first") -> None:
        self.mark = mark
        self.shared, self.writable = directory / "shared", directory / "writable-share"
        self.owned = directory / "owned-share"
        for folder in (self.shared, self.writable, self.owned):
            folder.mkdir()
            (folder / "marker").write_text(f"{folder.name}\n", encoding="utf-8")
        self.socket = directory / "placed.sock"
        self.disk, self.writable_disk, self.late_disk = (
            self._disk(directory / name) for name in ("disk", "writable-disk", "late-disk")
        )
        self.image = directory / "image"
        self.image.write_bytes(_qcow2().ljust(_DISK_SIZE, b"\0"))

    def _disk(self, path: Path) -> Path:
        path.write_bytes(path.name.encode().ljust(_DISK_SIZE, b"\0"))
        return path


def _qcow2() -> bytes:
    """Return an empty image of IMAGE_CLAIMS bytes (QEMU's docs/interop/qcow2.rst, version 2), of four clusters."""
    cluster = 1 << 16
    header = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", 2, 0, 0, 16, IMAGE_CLAIMS, 0, 1, 3 * cluster, cluster, 1, 0, 0)
    references = struct.pack(">Q", 2 * cluster)  # the table names one block, which counts the four clusters
    counts = struct.pack(">4H", 1, 1, 1, 1)
    return header.ljust(cluster, b"\0") + references.ljust(cluster, b"\0") + counts.ljust(2 * cluster, b"\0")


def start_of(path: Path) -> str:
    """Return the first bytes of a file as the probing guest reports those of a disk."""
    with path.open("rb") as file:
        return file.read(16).hex()


def connected(path: Path) -> socket.socket:
    """Return a connection to a unix socket, whose path may be too long for an address. Raises OSError."""
    client = socket.socket(socket.AF_UNIX)
    directory = -1
    try:
        directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
        client.connect(f"/proc/self/fd/{directory}/{path.name}")
        client.setblocking(False)
    except BaseException:
        client.close()
        raise
    finally:
        if directory != -1:
            os.close(directory)
    return client


async def greeting_at(address: str, port: int) -> str:
    """Return what is said to a TCP client on a port of this host, "" if there is no connection or answer."""
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(scaled(5.0)):
            reader, writer = await asyncio.open_connection(address, port)
            try:
                return (await reader.readline()).decode().strip()
            finally:
                writer.close()
    return ""


def held_open(pid: int, file: Path) -> bool:
    """Return whether a process has a file open; also by the name that the kernel has for what is none."""
    with suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                if str(entry.readlink()) == str(file):
                    return True
    return False
