"""What processes use of the host, by proc(5). Uses nothing of this project: a peer's environment imports it too."""

from __future__ import annotations

from pathlib import Path


def descendants(pid: int) -> list[int]:
    """Return the pids of all children of a process, of their children, and so on."""
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, children.read_text(encoding="ascii").split()):
            found += [child, *descendants(child)]
    return found


def memory(pid: int) -> float:
    """Return the memory of a process in MiB: what it alone uses, and its part of what several processes share (PSS).

    A process that has ended uses none, although it is there until its parent waits for it.
    """
    try:
        return _kib(Path(f"/proc/{pid}/smaps_rollup"), "Pss") / 1024
    except ProcessLookupError:
        return 0.0


def available_memory() -> float:
    """Return the memory in MiB that this host can give to programs without swapping."""
    return _kib(Path("/proc/meminfo"), "MemAvailable") / 1024


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of all threads that a process has, in seconds (the first field of schedstat, in ns)."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text(encoding="ascii").split()[0]) for task in tasks) / 1e9


def _kib(path: Path, name: str) -> int:
    for line in path.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise AssertionError(f"{path} has no {name}")
