"""A running pod that tests attack, and what /proc shows of its processes."""

from __future__ import annotations

import os
from pathlib import Path

from vc_core.store.roots import ROOT_VARIABLE


class Process:
    """What /proc shows of one process."""

    def __init__(self, pid: int) -> None:
        self.pid, self.place = pid, Path(f"/proc/{pid}")

    def read(self, name: str) -> str:
        return (self.place / name).read_text(encoding="utf-8", errors="surrogateescape")

    @property
    def status(self) -> dict[str, str]:
        pairs = (line.partition(":") for line in self.read("status").splitlines())
        return {key: " ".join(value.split()) for key, _, value in pairs}

    @property
    def has_ended(self) -> bool:
        """Whether it is gone, or only its parent has not noticed it yet (proc(5), state Z)."""
        try:
            return self.status["State"].startswith("Z")
        except OSError:
            return True

    def capabilities(self, which: str) -> int:
        return int(self.status[which], 16)

    @property
    def namespaces(self) -> dict[str, str]:
        return {one.name: str(one.readlink()) for one in (self.place / "ns").iterdir()}

    @property
    def mounts(self) -> dict[str, set[str]]:
        return {line.split()[4]: set(line.split()[5].split(",")) for line in self.read("mountinfo").splitlines()}

    @property
    def limits(self) -> dict[str, str]:
        return {line[:26].strip(): line[26:47].strip() for line in self.read("limits").splitlines()}

    @property
    def files(self) -> set[str]:
        return {str(one.readlink()) for one in (self.place / "fd").iterdir()}

    @property
    def variables(self) -> set[str]:
        return {one.partition("=")[0] for one in self.read("environ").split("\0") if one}


class Posture:
    """A running pod with a read-only mount and a writable one, and its processes.

    ``top`` holds its directories: ``root`` for state and run, ``bundle``, and the sources ``reading`` and ``writing``.
    """

    def __init__(self, top: Path, run_dir: Path, init: int, pod_id: str = "posture") -> None:
        self.top, self.run_dir = top, run_dir
        self.init = Process(init)
        [qemu] = self.init.read(f"task/{init}/children").split()
        self.qemu = Process(int(qemu))
        supervisor = find_supervisor(pod_id, top / "root")
        assert supervisor is not None, f"pod {pod_id} has no supervisor"
        self.supervisor = supervisor


def find_supervisor(pod_id: str, root: Path) -> Process | None:
    """Return the supervisor of a pod below a root (``VIRTCONTAINERS_ROOT``), None if it has none."""
    place = os.fsencode(f"{ROOT_VARIABLE}={root}")
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
            if words[2:5] != [b"-m", b"vc_core.supervisor", pod_id.encode()]:
                continue
            if place in (entry / "environ").read_bytes().split(b"\0"):  # another run of these tests has its own
                return Process(int(entry.name))
        except OSError:
            continue
    return None
