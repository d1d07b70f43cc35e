"""Containers for the contract of spawners to enter: processes of this host in namespaces, or containers of a guest."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

import vc_core
from vc_core.config.container import Cmd, ContainerConfig, EnvVar
from vc_core.config.pod import PodConfig
from vc_core.driver.spawner import SpawnTarget
from vc_core.results import ExecResult
from vc_core.testing.rootfs import make_root_fs
from vc_core.testing.slowness import scaled

#: The namespaces of a process, by their names in /proc/PID/ns, that containers can have of their own. The first is that
#: without which a process finds nothing of itself in a container's /proc.
NAMESPACES = ("pid", "mnt", "uts", "ipc", "net")

#: In each container: the file that holds its id, and a program whose name looks like an option; it prints "ran".
NAME_FILE, DASHED_PROGRAM = "/tmp/vc-container", "-program"

_DASHED_PROGRAM_TEXT = "#!/bin/sh\necho ran\n"

#: Seconds for one command in a container.
_TIMEOUT = scaled(20.0)

#: Runs as the first process of a container on this host, with its id and an empty directory: moves into a root that is
#: this host's but for /tmp, as a container's first process does with its own (pivot_root(2)).
_ENTER_ROOT = """
mount -t tmpfs container "$2"
mkdir "$2/root"
mount --rbind / "$2/root"
mount -t tmpfs container "$2/root/tmp"
mkdir "$2/root/tmp/old"
echo "$1" >"$2/root/tmp/vc-container"
printf %s "$3" >"$2/root/tmp/-program"
chmod 755 "$2/root/tmp/-program"
echo "$1" >/proc/sys/kernel/hostname
cd "$2/root"
pivot_root . tmp/old
umount -l /tmp/old
mount -t proc proc /proc
echo ready
exec sleep 100000
"""

#: Prints the pid of the process of a guest whose environment names a container.
_FIND = """
for process in /proc/[0-9]*; do
    if tr '\\0' '\\n' <"$process/environ" 2>/dev/null | grep -qxF "VC_CONTAINER=$1"; then echo "${process#/proc/}"; fi
done
"""


@dataclass(frozen=True)
class Enterable:
    """A container that commands can enter.

    ``run`` runs words outside of the container, where a spawner's program belongs, with these bytes of input.
    ``namespaces`` are the container's, as /proc/PID/ns shows them.
    """

    target: SpawnTarget
    namespaces: Mapping[str, str]
    run: Callable[[Sequence[str], bytes], ExecResult]


@contextmanager
def host_containers(directory: Path) -> Iterator[tuple[Enterable, ...]]:
    """Run two containers on this host while the block runs; ``directory`` is for their mount points.

    Skips the test without root, which entering a namespace takes.
    """
    if os.geteuid() != 0:
        pytest.skip("entering a container needs root")
    with ExitStack() as stack:
        yield tuple(stack.enter_context(_host_container(name, directory)) for name in ("c1", "c2"))


@contextmanager
def _host_container(name: str, directory: Path) -> Iterator[Enterable]:
    root = directory / name
    root.mkdir()
    words = ["unshare", "--mount", "--uts", "--ipc", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    words += ["sh", "-euc", _ENTER_ROOT, "sh", name, str(root), _DASHED_PROGRAM_TEXT]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, encoding="utf-8") as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", "this host does not let root make a container"
            pid = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="utf-8"))
            namespaces = {kind: str(Path(f"/proc/{pid}/ns/{kind}").readlink()) for kind in NAMESPACES}
            yield Enterable(SpawnTarget(name, pid), namespaces, _run_here)
        finally:
            process.kill()


def _run_here(argv: Sequence[str], stdin: bytes) -> ExecResult:
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin:/tmp"
    if shutil.which(argv[0], path=path) is None:
        pytest.skip(f"{argv[0]} is not on this host; override the fixture containers with guest_containers()")
    done = subprocess.run(argv, env={**os.environ, "PATH": path}, input=stdin, capture_output=True, timeout=_TIMEOUT)
    return ExecResult(done.returncode if done.returncode >= 0 else 128 - done.returncode, done.stdout, done.stderr)


@contextmanager
def guest_containers(directory: Path, hypervisor: str = "qemu") -> Iterator[tuple[Enterable, ...]]:
    """Run two containers in a guest of the agent ``sshd`` while the block runs; ``directory`` is for their roots.

    A spawner's words then run where that agent would run them: in the guest, outside of its containers. The pod is one
    of the state root that the environment names.
    """
    names = ("c1", "c2")
    for name in names:
        root = directory / name
        make_root_fs(root)
        (root / NAME_FILE.removeprefix("/")).write_text(f"{name}\n", encoding="utf-8")
        (root / "bin" / DASHED_PROGRAM).write_text(_DASHED_PROGRAM_TEXT, encoding="utf-8")
        (root / "bin" / DASHED_PROGRAM).chmod(0o755)
    config = PodConfig(
        hypervisor_type=hypervisor,
        agent_type="sshd",
        containers=[
            ContainerConfig(
                id=name,
                root_fs=str(directory / name),
                cmd=Cmd(args=["sleep", "100000"], envs=[EnvVar("VC_CONTAINER", name)]),
            )
            for name in names
        ],
    )
    with vc_core.run_pod(config) as pod:

        def in_guest(argv: Sequence[str], stdin: bytes) -> ExecResult:
            return pod.enter(Cmd(args=argv), stdin=stdin, timeout=_TIMEOUT)

        def container(name: str) -> Enterable:
            pid = int(in_guest(["sh", "-c", _FIND, "sh", name], b"").stdout)
            links = {
                kind: in_guest(["readlink", f"/proc/{pid}/ns/{kind}"], b"").stdout.decode().strip()
                for kind in NAMESPACES
            }
            return Enterable(SpawnTarget(name, pid), links, in_guest)

        yield tuple(map(container, names))
