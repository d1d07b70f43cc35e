"""The agent sshd, compared with the agent hyperstart and with OpenSSH's own client."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import vc_core as vc
from benchmarks.frame import Row, Section, Turn, seconds, turn
from benchmarks.starts import first_byte
from benchmarks.world import EMULATED, World
from vc_core.store.store import Store
from vc_core.testing import built_guest

#: A path, because the guest's shell starts no program for the word "true".
TRUE = "/bin/true"


@contextmanager
def _cold_start(world: World) -> Iterator[Turn]:
    yield turn(lambda: first_byte(world, "--agent", "sshd"), lambda: first_byte(world))


@contextmanager
def _exec_true(world: World) -> Iterator[Turn]:
    """``enter_pod`` in one process, against ``ssh`` over a connection that stays open, both to the same guest."""
    command = vc.Cmd(args=[TRUE])
    sleeper = vc.ContainerConfig(id="c", root_fs=str(world.bundle), cmd=vc.Cmd(args=["sleep", "10000"]))
    config = vc.PodConfig(agent_type="sshd", hypervisor_config=EMULATED, containers=[sleeper])
    with vc.run_pod(config) as pod, master(pod.id, world.folder) as ssh:

        def ours() -> float:
            began = time.monotonic()
            assert pod.enter(command).exit_code == 0
            return time.monotonic() - began

        yield turn(ours, lambda: seconds([*ssh, TRUE]))


def _sizes(world: World) -> Iterator[str]:
    for agent in ("hyperstart", "sshd"):
        size = built_guest(agent).initramfs.stat().st_size / 2**20
        yield f"The initramfs of the built guest has {size:.1f} MiB for the agent `{agent}`."


@contextmanager
def master(pod_id: str, folder: Path) -> Iterator[list[str]]:
    """Open a connection of ssh to a pod's guest, and yield the command that uses it."""
    store = Store.here()
    record, keys = store.read(pod_id), store.roots.pod_run_dir(pod_id) / "ssh"
    assert record.vm is not None
    known = folder / "known_hosts"
    known.write_text(f"guest {(keys / 'host-key.pub').read_text(encoding='utf-8')}", encoding="utf-8")
    ssh = [
        *("ssh", "-F", "none", "-i", str(keys / "client-key"), "-p", str(port(int(record.vm["pid"])))),
        *("-o", f"UserKnownHostsFile={known}", "-o", "HostKeyAlias=guest", "-o", "IdentitiesOnly=yes"),
        *("-o", f"ControlPath={folder}/master", "root@127.0.0.1"),
    ]
    subprocess.run([ssh[0], "-M", "-N", "-f", "-o", "ControlPersist=yes", *ssh[1:]], check=True)
    try:
        yield ssh
    finally:
        subprocess.run([ssh[0], "-O", "exit", *ssh[1:]], check=True, stderr=subprocess.DEVNULL)


def port(pid: int) -> int:
    """Return the TCP port that a process or a child of it listens on: a QEMU in a jail is a child of its record's."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    sockets = {str(fd.readlink()) for one in (pid, *children) for fd in Path(f"/proc/{one}/fd").iterdir()}
    for line in Path("/proc/net/tcp").read_text(encoding="utf-8").splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
            return int(fields[1].partition(":")[2], 16)
    raise AssertionError(f"process {pid} listens on no TCP port")


ROWS = (
    Row(
        "sshd-start", "`virtc pod run -i --agent sshd` to the first byte of the container's output",
        "the same with the agent `hyperstart`", _cold_start, limit=5, rounds=3, warm_up=0,
    ),
    Row(
        "sshd-exec", "`enter_pod(... true)` with the agent `sshd`", "`ssh ... true` with a control master", _exec_true,
        limit=1.3, rounds=50, warm_up=5,
    ),
)  # fmt: skip
SECTIONS = (Section("guest-sizes", "Sizes of guests", _sizes),)
