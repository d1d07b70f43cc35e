"""A census of what a test can leave behind: descriptors, processes, threads, mounts, sockets, loop devices and so on.

Called around every test by the fixture in this repository's ``conftest.py``, and by tests that count for themselves.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vc_core.testing.slowness import scaled

#: The things found: a key that stays the same as long as the thing exists, and a description.
Census = dict[tuple[object, ...], str]

#: Seconds in which a thing must be gone after the test, and seconds between two polls.
_GRACE, _POLL_INTERVAL = scaled(1.0), 0.02

#: Our default roots (``/run/virtcontainers`` and so on) hold this name; no test may mount anything there either.
_PRODUCT = "virtcontainers"

#: Flag of a listening socket in ``/proc/net/unix`` (``__SO_ACCEPTCON`` in the kernel's linux/net.h).
_LISTENING = 1 << 16


@contextmanager
def unchanged(root: Path, files: Iterable[Path] = (), *, groups: bool = False) -> Iterator[None]:
    """Fail if the block leaves anything behind that was not there before and does not go away within a second.

    ``root`` is the directory below which tests keep their state: processes that name it in their arguments or
    environment, mounts and listening sockets below it, mounts of it in their mount namespaces, and loop devices
    of files below it are counted, besides this process' own descriptors, threads and children. ``files`` are
    directories whose files count as well, hidden ones too. With ``groups`` control groups that a VM has left below its
    own count: nothing shows whose VM that was, so no other process may run VMs meanwhile. Raises AssertionError with a
    line for each thing.
    """
    files, began = tuple(files), time.clock_gettime(time.CLOCK_BOOTTIME)
    before = take(root, files, groups=groups)
    yield
    end = time.monotonic() + _GRACE
    while left := {
        key: text
        for key, text in take(root, files, groups=groups).items()
        if key not in before and not _is_older(key, began)
    }:
        if time.monotonic() > end:
            raise AssertionError("\n  ".join(["left behind:", *sorted(left.values())]))
        gc.collect()  # objects in a cycle of references are released only now
        threading.Event().wait(_POLL_INTERVAL)


def _is_older(key: tuple[object, ...], moment: float) -> bool:
    """Return whether a thing is a process that began before a moment of CLOCK_BOOTTIME: no block has left it.

    A process that a fixture of wider scope has just started may have been executing execve(2) when all were counted,
    and names nothing then.
    """
    return key[0] == "process" and int(str(key[2])) < int(moment * os.sysconf("SC_CLK_TCK"))


def take(root: Path, files: Iterable[Path] = (), *, groups: bool = False) -> Census:
    """Return what exists now; the arguments are those of :func:`unchanged`."""
    return {
        **_descriptors(),
        **{("thread", thread.ident): f"thread {thread.name}" for thread in threading.enumerate()},
        **_processes(os.fsencode(root)),
        **_mounts(str(root)),
        **_foreign_mounts(os.fsencode(root)),
        **_loop_devices(os.fsencode(root)),
        **(_control_groups() if groups else {}),
        **_listeners(str(root)),
        **{("file", path): f"file {path}" for directory in files for path in directory.rglob("*")},
    }


def _descriptors() -> Census:
    found: Census = {}
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the one that listed the directory
            target = os.readlink(f"/proc/self/fd/{descriptor}")
            found["descriptor", descriptor, target] = f"descriptor {descriptor} of {target}"
    return found


def _processes(root: bytes) -> Census:
    """Find this process' children, zombies included, and every process that names ``root``."""
    children = set()
    for task in os.listdir("/proc/self/task"):
        with suppress(FileNotFoundError):
            children.update(_read(f"/proc/self/task/{task}/children").decode().split())
    found: Census = {}
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        # At every step the process may have ended, or belong to another user.
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            arguments = _read(f"/proc/{pid}/cmdline")
            if pid not in children and root not in arguments and root not in _read(f"/proc/{pid}/environ"):
                continue
            if not _ends_with_another(pid):
                stat = _read(f"/proc/{pid}/stat")
                start_time = stat[stat.rindex(b")") :].split()[20].decode()
                words = arguments.replace(b"\0", b" ").decode(errors="replace").strip() or "zombie"
                found["process", pid, start_time] = f"process {pid} ({words})"
    return found


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read()


def _ends_with_another(pid: str) -> bool:
    """Return whether a process is in another pid namespace and not its first: the kernel ends it with the first."""
    status = _read(f"/proc/{pid}/status")
    numbers = status.partition(b"\nNSpid:")[2].partition(b"\n")[0].split()  # one for each namespace, outermost first
    return len(numbers) > 1 and numbers[-1] != b"1"


def _mounts(root: str) -> Census:
    lines = map(os.fsdecode, _lines("/proc/self/mountinfo"))
    return {("mount", line): f"mount {line}" for line in lines if root in line or _PRODUCT in line}


def _foreign_mounts(root: bytes) -> Census:
    """Find mounts that name ``root`` in the mount namespaces of processes that name it too, such as those of a pod.

    A namespace of another process has copies of all mounts of the moment at which it was made: nobody left them there.
    """
    found: Census = {}
    seen = {os.stat("/proc/self/ns/mnt").st_ino}
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            namespace = os.stat(f"/proc/{pid}/ns/mnt").st_ino
            if namespace in seen or root not in _read(f"/proc/{pid}/cmdline") + _read(f"/proc/{pid}/environ"):
                continue
            for line in filter(lambda line: root in line, _lines(f"/proc/{pid}/mountinfo")):
                what = f"mount in the namespace of process {pid}: {os.fsdecode(line)}"
                found["mount", namespace, line] = what
            seen.add(namespace)
    return found


def _loop_devices(root: bytes) -> Census:
    found: Census = {}
    for file in Path("/sys/block").glob("loop*/loop/backing_file"):
        with suppress(OSError):  # detached meanwhile
            if root in (backing := file.read_bytes().rstrip(b"\n")):
                found["loop", file.parts[3], backing] = f"loop device {file.parts[3]} of {os.fsdecode(backing)}"
    return found


def _control_groups() -> Census:
    """Find groups without processes below those of this process that have a name as VMs get them, ``vc-UUID``.

    The first group of a hierarchy is left out: it is that of everybody on this host.
    """
    found: Census = {}
    for line in map(os.fsdecode, _lines("/proc/self/cgroup")):
        _, controllers, path = line.split(":", 2)
        if path == "/":
            continue
        for top in (f"/sys/fs/cgroup/{controllers.removeprefix('name=') or 'unified'}", "/sys/fs/cgroup"):
            for group in Path(top, path.lstrip("/")).glob("vc-*"):
                with suppress(OSError):  # it has been removed meanwhile
                    if not (group / "cgroup.procs").read_bytes():
                        found["control group", group] = f"control group {group}"
    return found


def _lines(path: str) -> list[bytes]:
    return Path(path).read_bytes().splitlines()


def _listeners(root: str) -> Census:
    found: Census = {}
    for line in map(os.fsdecode, Path("/proc/net/unix").read_bytes().split(b"\n")[1:-1]):
        _, _, _, flags, _, _, inode, *path = line.split(maxsplit=7)
        if path and root in path[0] and int(flags, 16) & _LISTENING:  # the name of an abstract one begins with "@"
            found["socket", inode] = f"listening socket {path[0]}"
    return found
