"""What processes of this host use: processor time, memory, threads and disks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from vc_core.driver.process import stat_fields
from vc_core.results import VMUsage

_TICKS = os.sysconf("SC_CLK_TCK")


def usage_of(pids: Iterable[int]) -> VMUsage:
    """Return what processes and their descendants use together; one that has ended uses nothing.

    A figure is None if this process may not read it of any of them (proc(5), "ptrace access mode").
    """
    cpu, threads = 0.0, 0
    memory: list[int] = []
    read: list[int] = []
    written: list[int] = []
    for pid in {one for top in pids for one in _family(top)}:
        fields = stat_fields(pid)
        if fields is None:
            continue
        cpu += (int(fields[11]) + int(fields[12])) / _TICKS  # utime and stime, fields 14 and 15
        threads += int(fields[17])
        with suppress(OSError):
            memory.append(_value(pid, "smaps_rollup", "Pss:") * 1024)
        with suppress(OSError):
            read.append(_value(pid, "io", "read_bytes:"))
            written.append(_value(pid, "io", "write_bytes:"))
    return VMUsage(
        cpu_seconds=cpu,
        memory=sum(memory) if memory else None,
        pids=threads,
        read=sum(read) if read else None,
        written=sum(written) if written else None,
    )


def _family(pid: int) -> Iterator[int]:
    """Yield a process and its descendants."""
    yield pid
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text(encoding="utf-8").split():
                yield from _family(int(child))


def _value(pid: int, file: str, key: str) -> int:
    """Return the number behind ``key`` in a file of /proc/PID; 0 if it has none. Raises OSError."""
    for line in Path(f"/proc/{pid}/{file}").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith(key):
            return int(line.split()[1])
    return 0
