"""A census of what a test can leave behind: descriptors, processes, threads, mounts, sockets, loop devices and so on.

Called around every test by the fixture in this repository's ``conftest.py``, and by tests that count for themselves.
"""

from __future__ import annotations

import errno
import functools
import gc
import os
import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from vc_core.client import kept_links
from vc_core.testing.slowness import Stopwatch, scaled

#: The things found: a key that stays the same as long as the thing exists, and a description.
Census = dict[tuple[object, ...], str]

#: Seconds of a stopwatch in which a thing must be gone after the test, and seconds between two polls.
_GRACE, _POLL_INTERVAL = scaled(1.0), 0.02

#: Our default roots (``/run/virtcontainers`` and so on) hold this name; no test may mount anything there either.
_PRODUCT = b"virtcontainers"

#: At every step a process may have ended, or belong to another user.
_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)

#: Flag of a listening socket in ``/proc/net/unix`` (``__SO_ACCEPTCON`` in the kernel's linux/net.h).
_LISTENING = 1 << 16


@contextmanager
def unchanged(root: Path, files: Iterable[Path] = (), *, groups: bool = False) -> Iterator[None]:
    """Fail if the block leaves anything behind that was not there before and does not go away within a second.

    ``root`` is the directory below which tests keep their state: processes that name it in their arguments or
    environment, mounts and listening sockets below it, mounts of it in their mount namespaces, and loop devices
    of files below it are counted, besides this process' own descriptors, threads and children. ``files`` are
    directories whose files count as well, hidden ones too. With ``groups`` control groups that a VM has left below its
    own count: nothing shows whose VM that was, so no other process may run VMs in its group meanwhile. Raises
    AssertionError with a line for each thing.
    """
    _leave_what_exists_out_of_collections()
    files, began = tuple(files), time.clock_gettime(time.CLOCK_BOOTTIME)
    before = take(root, files, groups=groups)
    yield
    kept_links.close_all()
    watch, waited = Stopwatch(), False
    while left := {
        key: text
        for key, text in take(root, files, groups=groups).items()
        if key not in before and not _is_older(key, began)
    }:
        if waited:
            raise AssertionError("\n  ".join(["left behind:", *sorted(left.values())]))
        gc.collect()  # objects in a cycle of references are released only now
        threading.Event().wait(_POLL_INTERVAL)
        waited = watch.seconds() > _GRACE  # before the next look, as a look at a busy host takes long


@functools.cache
def _leave_what_exists_out_of_collections() -> None:
    """Let garbage collections skip the objects of now: those of thousands of collected tests would take 0.2 s each."""
    gc.collect()
    gc.freeze()


def _is_older(key: tuple[object, ...], moment: float) -> bool:
    """Return whether a thing is a process that began before a moment of CLOCK_BOOTTIME: no block has left it.

    A process that a fixture of wider scope has just started may have been executing execve(2) when all were counted,
    and names nothing then.
    """
    return key[0] == "process" and int(str(key[2])) < int(moment * os.sysconf("SC_CLK_TCK"))


def take(root: Path, files: Iterable[Path] = (), *, groups: bool = False) -> Census:
    """Return what exists now; the arguments are those of :func:`unchanged`."""
    name = _name(root)
    named = _that_name(name)
    return {
        **_descriptors(),
        **{("thread", thread.ident): f"thread {thread.name}" for thread in threading.enumerate()},
        **_processes(named),
        **_mounts(name),
        **_foreign_mounts(name, named),
        **_loop_devices(name),
        **(_control_groups() if groups else {}),
        **_listeners(name),
        **{("file", path): f"file {path}" for directory in files for path in directory.rglob("*")},
    }


def _name(root: Path) -> re.Pattern[bytes]:
    """Return what finds the name of ``root`` and of what is below it, but not ``pytest-10`` for ``pytest-1``."""
    return re.compile(re.escape(os.fsencode(root)) + rb"(?![\w.-])")


def _descriptors() -> Census:
    found: Census = {}
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the one that listed the directory
            target = os.readlink(f"/proc/self/fd/{descriptor}")
            found["descriptor", descriptor, target] = f"descriptor {descriptor} of {target}"
    return found


def _that_name(root: re.Pattern[bytes]) -> dict[str, bytes]:
    """Return the pids of the processes that name ``root`` in their arguments or environment, with their arguments."""
    found = {}
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(*_GONE):
            arguments = _read(f"/proc/{pid}/cmdline")
            if root.search(arguments) or root.search(_read(f"/proc/{pid}/environ")):
                found[pid] = arguments
    return found


def _processes(named: Mapping[str, bytes]) -> Census:
    """Find this process' children, zombies included, and the processes that name the root."""
    children = set()
    for task in os.listdir("/proc/self/task"):
        with suppress(FileNotFoundError):
            children.update(_read(f"/proc/self/task/{task}/children").decode().split())
    found: Census = {}
    for pid in children | named.keys():
        with suppress(*_GONE):
            arguments = named.get(pid) or _read(f"/proc/{pid}/cmdline")
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


def _mounts(root: re.Pattern[bytes]) -> Census:
    lines = _lines("/proc/self/mountinfo")
    return {("mount", line): f"mount {os.fsdecode(line)}" for line in lines if _PRODUCT in line or root.search(line)}


def _foreign_mounts(root: re.Pattern[bytes], named: Iterable[str]) -> Census:
    """Find mounts that name ``root`` in the mount namespaces of processes that name it too, such as those of a pod.

    A namespace of another process has copies of all mounts of the moment at which it was made: nobody left them there.
    """
    found: Census = {}
    seen = {os.stat("/proc/self/ns/mnt").st_ino}
    for pid in named:
        with suppress(*_GONE):
            namespace = os.stat(f"/proc/{pid}/ns/mnt").st_ino
            if namespace in seen:
                continue
            for line in filter(root.search, _mounts_of(pid)):
                what = f"mount in the namespace of process {pid}: {os.fsdecode(line)}"
                found["mount", namespace, line] = what
            seen.add(namespace)
    return found


def _mounts_of(pid: str) -> list[bytes]:
    """Return the lines of the mounts that a process has. Raises what :data:`_GONE` lists."""
    try:
        return _lines(f"/proc/{pid}/mountinfo")
    except OSError as error:
        if error.errno == errno.EINVAL:  # it is ending, and has left its namespaces before its entry in /proc
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)) from error
        raise


def _loop_devices(root: re.Pattern[bytes]) -> Census:
    found: Census = {}
    for file in Path("/sys/block").glob("loop*/loop/backing_file"):
        with suppress(OSError):  # detached meanwhile
            if root.search(backing := file.read_bytes().rstrip(b"\n")):
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


def _listeners(root: re.Pattern[bytes]) -> Census:
    found: Census = {}
    for line in Path("/proc/net/unix").read_bytes().split(b"\n")[1:-1]:
        _, _, _, flags, _, _, inode, *path = line.split(maxsplit=7)
        if path and root.search(path[0]) and int(flags, 16) & _LISTENING:  # that of an abstract one begins with "@"
            found["socket", inode] = f"listening socket {os.fsdecode(path[0])}"
    return found
