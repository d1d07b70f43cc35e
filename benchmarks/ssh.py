"""The agent sshd, compared with the agent hyperstart and with OpenSSH's own client."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import vc_core as vc
from benchmarks.bare import ACCELERATOR, EMULATED
from benchmarks.ratio import Ratio, pairs
from vc_core.store.store import Store
from vc_core.testing import built_guest

VIRTC = str(Path(sys.executable).with_name("virtc"))

#: A path, because the guest's shell starts no program for the word "true".
TRUE = "/bin/true"

#: Options of ``virtc pod run`` that choose the accelerator.
QEMU_OPTION = ("--hypervisor-option", f"accel={ACCELERATOR}")


def cold_start(bundle: Path) -> Ratio:
    """From the start of ``virtc`` to the container's first byte, with either agent."""
    rounds = 3
    medians = pairs(rounds, lambda: first_byte(bundle, "--agent", "sshd"), lambda: first_byte(bundle))
    return Ratio(
        "`virtc pod run -i --agent sshd` to the first byte of the container's output",
        "the same with the agent `hyperstart`",
        *medians, 5, rounds,
    )  # fmt: skip


def exec_true(bundle: Path, folder: Path) -> Ratio:
    """``enter_pod`` in one process, against ``ssh`` over a connection that stays open, both to the same guest."""
    rounds, command = 50, vc.Cmd(args=[TRUE])
    sleeper = vc.ContainerConfig(id="c", root_fs=str(bundle), cmd=vc.Cmd(args=["sleep", "10000"]))
    config = vc.PodConfig(agent_type="sshd", hypervisor_config=EMULATED, containers=[sleeper])
    with vc.run_pod(config) as pod, master(pod.id, folder) as ssh:

        def ours() -> float:
            began = time.monotonic()
            assert pod.enter(command).exit_code == 0
            return time.monotonic() - began

        def other() -> float:
            began = time.monotonic()
            subprocess.run([*ssh, TRUE], stdin=subprocess.DEVNULL, check=True)
            return time.monotonic() - began

        for _ in range(5):
            ours()
            other()
        medians = pairs(rounds, ours, other)
    return Ratio(
        "`enter_pod(... true)` with the agent `sshd`", "`ssh ... true` with a control master", *medians, 1.3, rounds
    )


def first_byte(bundle: Path, *options: str) -> float:
    """Return the seconds from the start of ``virtc pod run -i`` to the container's first byte."""
    began = time.monotonic()
    command = [VIRTC, "pod", "run", "-i", "--rm", "--bundle", str(bundle), *QEMU_OPTION, *options, "--", "echo", "x"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"x"
        return time.monotonic() - began


def sizes() -> str:
    """Return a sentence with the sizes of the initramfs of both agents' guests."""
    found = []
    for agent in ("hyperstart", "sshd"):
        found.append(f"{built_guest(agent).initramfs.stat().st_size / 2**20:.1f} MiB for the agent `{agent}`")
    return f"The initramfs of the built guest has {' and '.join(found)}."


@contextmanager
def master(pod_id: str, folder: Path) -> Iterator[list[str]]:
    """Open a connection of ssh to a pod's guest, and yield the command that uses it."""
    store = Store.here()
    record, keys = store.read(pod_id), store.roots.pod_run_dir(pod_id) / "ssh"
    assert record.vm is not None
    known = folder / "known_hosts"
    known.write_text(f"guest {(keys / 'guest/host-key.pub').read_text(encoding='utf-8')}", encoding="utf-8")
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
