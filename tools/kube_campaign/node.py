"""A node: namespaces for network, processes and mounts, in which programs have all paths of a host for themselves.

What they write below /etc, /opt, /run and /var is in a directory of the campaign. When the campaign ends, however it
does, the kernel ends every process of the node, and with the last one all its mounts, interfaces and rules.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

#: The control group below which all of the node's pods are.
GROUP = "vc-kubernetes"

#: Its share of the processors, as that of eight processes outside: on a busy host, all pods together would have one's.
_SHARES = {"cpu.shares": 8 * 1024, "cpu.weight": 8 * 100}

#: The address of the node, on its loopback interface, and the pods' networks.
ADDRESS, PODS = "10.77.0.1", "10.77.1.0/24"

#: Seconds for one command on the node.
TIMEOUT = 300.0

#: What the node writes to a copy of, and what of that is a plain directory, because overlays and tmpfs cannot be below
#: overlays and virtual machines.
_OVERLAID = ("etc", "opt", "var/lib", "var/log")
_PLAIN = (
    "opt/virtcontainers",
    "srv",
    "var/cache/virtcontainers",
    "var/lib/containerd",
    "var/lib/kubelet",
    "var/lib/virtcontainers",
    "var/log/containers",
    "var/log/pods",
)

#: Run by process 1 of the node, which then ignores the ends of processes that lose their parents, so that the kernel
#: keeps no zombie of them. "$1": the directory.
_SETUP = """\
set -eu
mount --make-rprivate /
for one in {overlaid}; do
    name=$(echo "$one" | tr / -)
    mkdir -p "$1/written/$name" "$1/work/$name"
    mount -t overlay overlay -o "lowerdir=/$one,upperdir=$1/written/$name,workdir=$1/work/$name" "/$one"
done
mount -t tmpfs -o mode=755 tmpfs /run
for one in {plain}; do
    mkdir -p "$1/plain/$one" "/$one"
    mount --bind "$1/plain/$one" "/$one"
done
chmod 700 /var/cache/virtcontainers /var/lib/virtcontainers
mkdir -p /run/lock
mount --make-rshared /
ip link set lo up
ip address add {address}/32 dev lo
echo ready
trap '' CHLD
exec sleep 1000000
"""


class Node:
    """The node, while its process 1 runs. ``top``: the directory of the campaign."""

    def __init__(self, top: Path, pid: int) -> None:
        self.top = top
        self._pid = pid
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def command(self, *arguments: str | Path) -> list[str]:
        """Return a command line that runs on the node."""
        return ["nsenter", "--target", str(self._pid), "--mount", "--net", "--pid", *map(str, arguments)]

    def run(
        self, *arguments: str | Path, given: str = "", check: bool = True, timeout: float = TIMEOUT
    ) -> subprocess.CompletedProcess[str]:
        """Run a program on the node and return what it wrote. Raises AssertionError where it fails, unless ``check`` is
        false.
        """
        done = subprocess.run(
            self.command(*arguments), input=given, capture_output=True, encoding="utf-8", timeout=timeout, check=False
        )
        assert not check or done.returncode == 0, f"{' '.join(map(str, arguments))}: {done.stdout}{done.stderr}"
        return done

    def path(self, name: str) -> Path:
        """Return where a file of the node is on the host, such as ``/etc/containerd/config.toml``."""
        return Path(f"/proc/{self._pid}/root{name}")

    def processes(self) -> dict[int, str]:
        """Return the command lines of the node's processes by their pids there."""
        found = {}
        for entry in self.path("/proc").iterdir():
            with suppress(OSError):
                line = (entry / "cmdline").read_bytes() if entry.name.isdecimal() else b""
                if line:  # a process that has ended, or a file
                    found[int(entry.name)] = line.replace(b"\0", b" ").decode(errors="replace").strip()
        return found

    def mounts(self) -> list[str]:
        """Return the node's mount points."""
        lines = Path(f"/proc/{self._pid}/mountinfo").read_text(encoding="utf-8").splitlines()
        return [line.split()[4] for line in lines]

    def groups(self) -> list[str]:
        """Return the control groups of the node's pods, and of what is in them."""
        walks = (os.walk(hierarchy / GROUP) for hierarchy in _hierarchies())
        return [folder for walk in walks for folder, _, _ in walk if "/pod" in folder]

    def start(
        self, name: str, *arguments: str | Path, variables: Mapping[str, str] | None = None, ready: Callable[[], bool]
    ) -> None:
        """Start a daemon, whose output is appended to a log, and wait until it is ready. Raises AssertionError."""
        log = self.top / f"logs/{name}"
        script = f'echo $$ >/run/{name}.pid; exec "$@"'
        with log.open("ab") as output:
            process = subprocess.Popen(
                self.command("sh", "-c", script, "sh", *arguments),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(variables or {})},
            )
        wait_for(lambda: ready() or process.poll() is not None, f"{name} is not ready; see {log}")
        assert process.poll() is None, f"{name} has ended; see {log}"
        self._daemons[name] = process

    def stop(self, name: str, signum: int = signal.SIGTERM) -> None:
        """End a daemon."""
        self.kill(int(self.path(f"/run/{name}.pid").read_text(encoding="ascii")), signum)
        self._daemons.pop(name).wait(TIMEOUT)

    def kill(self, pid: int, signum: int = signal.SIGKILL) -> None:
        """Send a signal to a process by its pid on the node."""
        self.run("sh", "-c", f"kill -{int(signum)} {pid}")


@contextmanager
def node(top: Path) -> Iterator[Node]:
    """Make a node for the block, in a directory that is removed first and afterwards, but for its logs."""
    _clear(top)
    _make_groups()
    setup = _SETUP.format(overlaid=" ".join(_OVERLAID), plain=" ".join(_PLAIN), address=ADDRESS)
    line = ["setpriv", "--pdeathsig", "KILL"]
    line += ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    with subprocess.Popen([*line, "sh", "-c", setup, "sh", str(top)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n", "the node cannot be made; see above"
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii")
            yield Node(top, int(children.split()[0]))
        finally:
            process.kill()
            process.wait()
            _remove_groups()
            _clear(top)


def wait_for(condition: Callable[[], bool], otherwise: str | Callable[[], str], timeout: float = TIMEOUT) -> None:
    """Wait until a condition holds. Raises AssertionError, with ``otherwise``, after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(otherwise if isinstance(otherwise, str) else otherwise())
        threading.Event().wait(0.1)


def _clear(top: Path) -> None:
    """Remove what an earlier campaign has written."""
    for name in ("written", "work", "plain"):
        shutil.rmtree(top / name, ignore_errors=True)
    (top / "logs").mkdir(parents=True, exist_ok=True)


def _hierarchies() -> list[Path]:
    """Return where hierarchies of control groups are: one of version 2, or one for each controller of version 1."""
    top = Path("/sys/fs/cgroup")
    if (top / "cgroup.controllers").exists():
        return [top]
    return [one for one in sorted(top.iterdir()) if not one.is_symlink() and (one / "cgroup.procs").exists()]


def _make_groups() -> None:
    """Make the control group in each hierarchy, where kubelet looks for it."""
    _remove_groups()
    for hierarchy in _hierarchies():
        group = hierarchy / GROUP
        group.mkdir()
        for name in ("cpuset.cpus", "cpuset.mems"):
            if (hierarchy / name).exists():  # version 1, in which no process can be in a group without
                (group / name).write_text((hierarchy / name).read_text(encoding="ascii"), encoding="ascii")
        for name, shares in _SHARES.items():
            if (group / name).exists():
                (group / name).write_text(str(shares), encoding="ascii")


def _remove_groups() -> None:
    """Remove the control group with those below, once their processes have ended."""
    for hierarchy in _hierarchies():
        for folder, _, _ in os.walk(hierarchy / GROUP, topdown=False):
            wait_for(lambda folder=folder: _removed(Path(folder)), f"control group {folder} is in use", 30)  # type: ignore[misc]


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:  # a process in it has not ended yet
        return False
    return True
