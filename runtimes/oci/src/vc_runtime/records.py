"""The directory of each container below ``--root``: its record, its lock, and the socket of its shim.

The record is written before what it names is made, so that ``delete --force`` finds all of it.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from vc_core.driver import ProcessIdentity
from vc_runtime.faults import NoSuchContainer, RuntimeFault

if TYPE_CHECKING:
    import socket

#: Ids of containers, as runc takes them.
_ID = re.compile(r"[\w+.-]{1,1024}", re.ASCII)

#: Ids of pods and containers of vc_core: 64 characters, of which an id that engines choose at random has all.
_RANDOM_ID = re.compile(r"[0-9a-f]{64}")

Status = Literal["creating", "created", "running", "paused", "stopped"]


class Shim(msgspec.Struct):
    """The process that stands for one in a guest, as :class:`vc_core.driver.ProcessIdentity` has it."""

    pid: int
    start_time: int
    boot_id: str

    @property
    def process(self) -> ProcessIdentity:
        """Return the process, to look whether it is alive and to signal it."""
        return ProcessIdentity(self.pid, self.start_time, self.boot_id)


class Record(msgspec.Struct, kw_only=True):
    """What is on disk of a container. ``pod`` and ``container`` are its ids for vc_core."""

    id: str
    bundle: str
    pod: str
    container: str
    sandbox: str = ""  #: id of the container whose VM it shares; empty: a VM of its own
    cgroup: str = ""
    rootfs: str = ""
    oci_version: str = ""
    annotations: dict[str, str] = {}
    created_at: float = 0.0
    shim: Shim | None = None
    started: bool = False
    paused: bool = False

    @property
    def status(self) -> Status:
        """The status that the specification names."""
        if self.shim is None or not self.shim.process.alive():
            return "stopped"
        if not self.started:
            return "created"
        return "paused" if self.paused else "running"

    @property
    def pid(self) -> int:
        """The process that stands for the container, 0 for none."""
        return 0 if self.shim is None or self.status == "stopped" else self.shim.pid


class Root:
    """The directory of ``--root``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def home(self, container_id: str) -> Home:
        """Return the directory of a container, whether it exists or not. Raises RuntimeFault for an id that is none."""
        if not _ID.fullmatch(container_id) or container_id in (".", ".."):
            raise RuntimeFault(f"container id {container_id!r} is not valid; give letters, digits and _+-.")
        return Home(self.path / container_id, container_id)

    def records(self) -> list[Record]:
        """Return the records of all containers, sorted by id; what is being made or removed is left out."""
        found = []
        with suppress(OSError):
            for path in sorted(self.path.iterdir()):
                with suppress(NoSuchContainer, RuntimeFault):
                    found.append(Home(path, path.name).read())
        return found

    def vc_id(self, container_id: str) -> str:
        """Return the id that a container, or the pod of one, has for vc_core.

        An id that an engine chose at random is kept. Others may be equal under two roots, or be too long.
        """
        if _RANDOM_ID.fullmatch(container_id):
            return container_id
        import hashlib  # here, because most engines choose ids at random, and OpenSSL is large

        digest = hashlib.sha256(f"{self.path.absolute()}\0{container_id}".encode()).hexdigest()[:12]
        return f"{re.sub(r'[^A-Za-z0-9_.-]', '_', container_id).lstrip('.-_')[:48]}-{digest}".lstrip("-")


class Home:
    """The directory of one container."""

    def __init__(self, path: Path, container_id: str) -> None:
        self.path, self.id = path, container_id

    def create(self) -> None:
        """Make the directory. Raises RuntimeFault for an id that is taken."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self.path.mkdir(mode=0o700)
        except FileExistsError:
            raise RuntimeFault(f"container with id {self.id} exists: delete it, or choose another id") from None

    def read(self) -> Record:
        """Return the record. Raises NoSuchContainer, RuntimeFault for one that is damaged."""
        try:
            return msgspec.json.decode((self.path / "state.json").read_bytes(), type=Record)
        except (FileNotFoundError, NotADirectoryError):
            raise NoSuchContainer(f"container {self.id} does not exist") from None
        except (OSError, msgspec.MsgspecError) as error:
            raise RuntimeFault(f"record of container {self.id} cannot be read: {error}") from error

    def write(self, record: Record) -> None:
        """Write the record, as a whole or not at all."""
        fresh = self.path / f".state.{os.getpid()}"
        fresh.write_bytes(msgspec.json.encode(record))
        fresh.replace(self.path / "state.json")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let no other verb change the container meanwhile. Raises NoSuchContainer."""
        try:
            directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NoSuchContainer(f"container {self.id} does not exist") from None
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            yield
        finally:
            os.close(directory)

    def remove(self) -> None:
        """Remove the directory with all that is in it."""
        try:
            for entry in self.path.iterdir():
                entry.unlink()
            self.path.rmdir()
        except OSError:  # it has gone, or others put a directory there
            import shutil

            shutil.rmtree(self.path, ignore_errors=True)

    def listen(self) -> socket.socket:
        """Return the socket on which the container's shim waits for ``start``."""
        import socket  # here and below, because it is large, and few verbs use one

        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with self._short() as path:
            listener.bind(path)
        listener.listen(4)
        return listener

    def connect(self) -> socket.socket:
        """Return a connection to the container's shim. Raises RuntimeFault when it has ended."""
        import socket

        shim = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with self._short() as path:
                shim.connect(path)
        except OSError as error:
            shim.close()
            raise RuntimeFault(f"the shim of container {self.id} has ended: {error.strerror}") from error
        return shim

    @contextmanager
    def _short(self) -> Iterator[str]:
        """Yield a path of the socket that is short enough for an address, however long the directory's name is."""
        directory = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield f"/proc/self/fd/{directory}/shim.sock"
        finally:
            os.close(directory)
