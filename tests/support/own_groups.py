"""Control groups in which only the processes of one run of the tests are: what a VM leaves there is of this run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: The beginning of their names; the pid of the run follows.
_NAME = "vc-tests-"

#: The hierarchies of version 1 in which QEMU gets a group. In version 2 a group with processes has none with limits
#: below it.
_CONTROLLERS = ("memory", "pids")


@contextmanager
def entered() -> Iterator[bool]:
    """Be in groups of its own; yield whether that is so. What other runs have left, empty, is removed."""
    own: list[Path] = []
    for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        _, controller, path = line.split(":", 2)
        if controller in _CONTROLLERS:
            parent = Path("/sys/fs/cgroup", controller, path.lstrip("/"))
            for old in parent.glob(f"{_NAME}*"):
                if not Path("/proc", old.name.removeprefix(_NAME)).exists():
                    _remove(old)
            group = parent / f"{_NAME}{os.getpid()}"
            with suppress(OSError):  # such as one of a plain user
                group.mkdir()
                (group / "cgroup.procs").write_text("0", encoding="ascii")
                own.append(group)
    yield bool(own)
    for group in own:
        (group.parent / "cgroup.procs").write_text("0", encoding="ascii")
        _remove(group)


def _remove(group: Path) -> None:
    """Remove a group with those below it, which a test that failed has left; none that has processes."""
    for one in (*group.glob("*/"), group):
        with suppress(OSError):
            one.rmdir()
