"""Checks QEMU on this host, for ``virtc check``: acceleration, holes of its version, each part of its jail."""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from vc_core.driver import (
    CheckOutcome,
    HostCheck,
    HostContext,
    HypervisorConfig,
    PodContext,
    Resources,
    frozen,
)
from vc_core.errors import HypervisorError
from vc_hypervisor_qemu import acceleration, cmdline, host, sockets
from vc_hypervisor_qemu.arguments import options
from vc_hypervisor_qemu.config import QemuConfig
from vc_hypervisor_qemu.holes import HOLES, LIBSLIRP, QEMU, Version, is_open, version_of
from vc_hypervisor_qemu.jail import cgroups, ids, trial
from vc_hypervisor_qemu.jail.launcher import PROCESSES, Level
from vc_hypervisor_qemu.jail.places import view_without_pod
from vc_hypervisor_qemu.jail.trial import Workplace
from vc_hypervisor_qemu.monitor import Monitor

#: Seconds for QEMU to print its version or its kinds of networks.
_PRINT_TIMEOUT = 5.0

#: Bytes of what QEMU prints that are read.
_OUTPUT_MAX = 4096

#: Filters of system calls of a QEMU that starts: the launcher's and its own.
_FILTERS = 2

#: The version of Landlock's interface from which on it also covers TCP, abstract sockets and signals.
_LANDLOCK_FULL = 6

OK, WARNING, ERROR = CheckOutcome.OK, CheckOutcome.WARNING, CheckOutcome.ERROR


@frozen
class _Started:
    """A QEMU without a guest, which was started as a pod's is, and has ended."""

    level: Level
    missing: tuple[str, ...]
    filters: int
    shares: frozenset[str]  #: names of its devices for shared directories


def check(context: HostContext) -> list[HostCheck]:
    """Return what this driver finds on this host. Called by ``virtc check`` when QEMU is installed."""
    binary = host.find_binary("")
    return [
        *_versions(binary),
        _acceleration(context, binary),
        *asyncio.run(_confinement(context, binary)),
    ]


# -- versions and their holes ------------------------------------------------------------------------------------------


def _versions(binary: Path) -> Iterator[HostCheck]:
    text = _printed(binary, "--version").partition("\n")[0]
    has_user_network = "user" in _printed(binary, "-netdev", "help").split()
    yield HostCheck(
        name="version",
        outcome=OK,
        found=text.removeprefix("QEMU emulator version ") or "of unrecognized version",
        meaning="The lines below name the holes that this version may have.",
    )
    versions = {QEMU: version_of(text), LIBSLIRP: libslirp_version() if has_user_network else None}
    for hole in HOLES:
        version = versions[hole.program]
        if version is None:
            continue
        shown = ".".join(map(str, version)) or "of unknown version"
        if is_open(hole, version):
            yield HostCheck(
                name=hole.name,
                outcome=WARNING,
                found=f"{hole.program} {shown} may have it",
                meaning=f"{hole.reach[0].upper()}{hole.reach[1:]} {hole.effect} ({hole.source}).",
                remedy=hole.remedy,
            )
        else:
            yield HostCheck(
                name=hole.name,
                outcome=OK,
                found=f"fixed in {hole.program} {shown}",
                meaning=f"Without the fix {hole.reach} {hole.effect}.",
            )


def libslirp_version() -> Version:
    """Return the version of the library of QEMU's user networks, empty if it cannot be determined."""
    try:
        library = ctypes.CDLL("libslirp.so.0")
        library.slirp_version_string.restype = ctypes.c_char_p
        return version_of(library.slirp_version_string().decode(errors="replace"))
    except (OSError, AttributeError):  # QEMU is linked with it in another way
        return ()


def _printed(binary: Path, *arguments: str) -> str:
    """Return what QEMU prints for an argument with which it only prints, "" if it cannot be run."""
    try:
        done = subprocess.run(
            [binary, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PRINT_TIMEOUT,
            env={},
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace")


# -- acceleration ------------------------------------------------------------------------------------------------------


def _acceleration(context: HostContext, binary: Path) -> HostCheck:
    name, obstacle = "acceleration", acceleration.Host().obstacle()
    emulated = "QEMU emulates the machine: pods are slow, and neither QEMU nor this project promises isolation."
    if not obstacle and context.kernel is None:
        return HostCheck(
            name=name,
            outcome=WARNING,
            found="KVM may work; it was not tried, because no guest is built",
            meaning="If it does not work, QEMU emulates the machine: pods are slow, and isolation is not promised.",
            remedy="run: virtc guest build, then check again",
        )
    if not obstacle:
        assert context.kernel is not None
        pod = PodContext(
            id="check",
            uuid=context.uuid,
            run_dir=context.work_dir,
            share_dir=context.work_dir,
            resources=Resources(),
            hypervisor_config=HypervisorConfig(),
        )
        seconds = min(acceleration.TRIAL_TIMEOUT, context.timeout / 2)
        try:
            obstacle = asyncio.run(acceleration.trial(pod, QemuConfig(), binary, context.kernel, "kvm", seconds))
        except HypervisorError as error:
            obstacle = str(error)
    if obstacle:
        return HostCheck(
            name=name,
            outcome=WARNING,
            found=f"tcg (emulation); {obstacle}",
            meaning=emulated,
            remedy=_kvm_remedy(acceleration.Host().kvm),
        )
    return HostCheck(
        name=name,
        outcome=OK,
        found="kvm; a kernel was booted with it",
        meaning="The machine is a boundary between a pod and its host.",
    )


def _kvm_remedy(device: Path) -> str:
    """Return how KVM can be made to work; ``device``: the one that QEMU opens for it."""
    if device.exists() and not os.access(device, os.R_OK | os.W_OK):
        return f"let this user open {device}; on Debian: adduser USER kvm, and log in again"
    return (
        "use a host with hardware virtualization: switch it on in the firmware, or nested virtualization on the "
        "machine that this host runs on; load the module kvm_intel or kvm_amd"
    )


# -- what confines QEMU ------------------------------------------------------------------------------------------------


async def _confinement(context: HostContext, binary: Path) -> list[HostCheck]:
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        place = Workplace(context.work_dir, context.uuid, writing)
        lines = list(await _started(context, binary, place, reading))
        lines += [_landlock(), _control_group(context)]
        if ids.has_ranges():
            lines += [_user_ids(), *await _file_systems(context, binary, place)]
        return lines
    finally:
        os.close(reading)
        os.close(writing)


async def _started(context: HostContext, binary: Path, place: Workplace, reading: int) -> list[HostCheck]:
    """Return the lines of a QEMU that is started as for a pod, but without a guest."""
    try:
        started = await _start(context, binary, place)
    except HypervisorError as error:
        try:
            said = os.read(reading, _OUTPUT_MAX).decode(errors="replace").strip().replace("\n", "; ")
        except BlockingIOError:
            said = ""
        return [
            HostCheck(
                name="start",
                outcome=ERROR,
                found="QEMU does not start",
                meaning=f"{error}{f' ({said})' if said else ''}",
                remedy="install a complete QEMU with seccomp; on Debian: apt install qemu-system-x86",
            )
        ]
    return [_jail(started), _filters(started), _shares(started)]


async def _start(context: HostContext, binary: Path, place: Workplace) -> _Started:
    """Start QEMU with a monitor, ask it for its devices, and end it. Raises HypervisorError."""
    path = context.work_dir / "monitor.sock"
    with ExitStack() as stack:
        monitor_socket = stack.enter_context(sockets.listen(path))
        values = {"id": "m", "fd": str(monitor_socket.fileno()), "server": "on", "wait": "off"}
        argv = [
            *(str(binary), "-uuid", context.uuid, "-no-user-config", "-nodefaults", "-display", "none"),
            *("-machine", "none", "-sandbox", cmdline.SANDBOX, "-S"),
            *("-chardev", options("socket", values), "-mon", options("", {"chardev": "m", "mode": "control"})),
        ]
        view = view_without_pod(binary, trial.filesystems([context.run_dir, context.cache_dir]))
        jailed = await trial.start(argv, view, [monitor_socket.fileno()], place)
        stack.callback(trial.end, jailed)
        monitor = Monitor(path, jailed.qemu)
        try:
            shares: set[str] = set()
            for kind in _SHARES:
                found = await monitor.execute("qom-list-types", arguments={"implements": kind})
                shares |= {kind} if isinstance(found, list) and found else set()
            filters = _filters_of(jailed.qemu)
        finally:
            await monitor.aclose()
        return _Started(jailed.level, jailed.missing, filters, frozenset(shares))


def _filters_of(pid: int) -> int:
    """Return how many filters of system calls a process has (proc(5), ``/proc/PID/status``, since Linux 5.9)."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").split("\n")
    return next((int(line.split()[1]) for line in lines if line.startswith("Seccomp_filters:")), 0)


#: What each level is that is less than a full jail.
_LESS = {
    Level.NAMESPACES: "QEMU sees no file but those it needs, but has the ids of a user of the host",
    Level.LANDLOCK: "QEMU has a user of the host, and can open only the files that it needs",
    Level.NONE: "QEMU has a user of the host, and can open that user's files",
}


def _jail(started: _Started) -> HostCheck:
    if started.level is Level.FULL:
        return HostCheck(
            name="jail",
            outcome=OK,
            found="full",
            meaning="QEMU was started in namespaces and with user ids of its own; it sees no file but those it needs.",
        )
    return HostCheck(
        name="jail",
        outcome=WARNING,
        found=str(started.level),
        meaning=f"{_LESS[started.level]}: {'; '.join(started.missing)}.",
        remedy="mend what the lines of the host and those below show; run pods as root",
    )


def _filters(started: _Started) -> HostCheck:
    name = "system calls"
    meaning = "QEMU can use only the system calls that it needs: its own filter and one of the launcher hold that."
    if started.filters >= _FILTERS:
        return HostCheck(name=name, outcome=OK, found=f"{started.filters} filters", meaning=meaning)
    return HostCheck(
        name=name,
        outcome=WARNING,
        found=f"{started.filters} filters of {_FILTERS} are seen",
        meaning="Either the kernel does not show the filters of a process, or one is missing.",
        remedy="use Linux 5.9 or later with CONFIG_SECCOMP_FILTER",
    )


#: QEMU's devices for shared directories, and what each is.
_SHARES = {"virtio-9p-pci": "9p", "vhost-user-fs-pci": "virtio-fs (not used by this driver)"}


def _shares(started: _Started) -> HostCheck:
    found = ", ".join(name for device, name in _SHARES.items() if device in started.shares) or "none"
    if "virtio-9p-pci" in started.shares:
        return HostCheck(
            name="shared directories",
            outcome=OK,
            found=found,
            meaning="Root file systems and mounts are shared with the guest over 9p.",
        )
    return HostCheck(
        name="shared directories",
        outcome=ERROR,
        found=found,
        meaning="This QEMU has no virtio-9p, over which root file systems and mounts are shared with the guest.",
        remedy="install a QEMU with virtio-9p; on Debian: apt install qemu-system-x86",
    )


def _landlock() -> HostCheck:
    name, version = "Landlock", trial.landlock_version()
    if not version:
        return HostCheck(
            name=name,
            outcome=WARNING,
            found="none",
            meaning="In a jail without namespaces QEMU can open every file of its user.",
            remedy="use Linux 5.13 or later with CONFIG_SECURITY_LANDLOCK, and landlock in the kernel's parameter lsm=",
        )
    covers = "files" if version < _LANDLOCK_FULL else "files, TCP, abstract sockets and signals"
    return HostCheck(
        name=name,
        outcome=OK,
        found=f"version {version} of its interface",
        meaning=f"It limits the {covers} that QEMU can use, below all other parts of the jail.",
    )


def _control_group(context: HostContext) -> HostCheck:
    name = "control group of QEMU"
    made = cgroups.make(context.uuid, cgroups.memory_limit(cmdline.DEFAULT_MEMORY, "tcg"), PROCESSES)
    try:
        limits = sorted({path.name for one in made.directories for path in one.glob("*.max")})
        limits += ["memory.limit_in_bytes" for one in made.directories if (one / "memory.limit_in_bytes").exists()]
    finally:
        made.remove()
    wanted = {"memory": ("memory.max", "memory.limit_in_bytes"), "processes": ("pids.max",)}
    found = [what for what, files in wanted.items() if any(file in limits for file in files)]
    missing = [what for what in wanted if what not in found]
    if not missing:
        return HostCheck(
            name=name, outcome=OK, found="can be made", meaning="It limits the memory and processes of each QEMU."
        )
    return HostCheck(
        name=name,
        outcome=WARNING,
        found=f"limits {' and '.join(found) or 'nothing'}",
        meaning=f"Nothing limits the {' and '.join(missing)} of a QEMU that its guest has taken over.",
        remedy="run pods from a control group that delegates memory and pids to you, such as a service of systemd with "
        "Delegate=yes, or on Debian as root",
    )


def _user_ids() -> HostCheck:
    name = "user ids"
    try:
        first, descriptor = ids.hold()
    except HypervisorError as error:
        return HostCheck(
            name=name,
            outcome=WARNING,
            found="no range",
            meaning="Without a range of user ids for each VM there is no full jail.",
            remedy=str(error),
        )
    os.close(descriptor)
    return HostCheck(
        name=name,
        outcome=OK,
        found=f"{ids.SIZE} for each VM; the next has those from {first} on",
        meaning="QEMU is no user of the host, and two VMs are not the same one.",
    )


async def _file_systems(context: HostContext, binary: Path, place: Workplace) -> list[HostCheck]:
    """Return a line for each file system of the pods' directories, and for that of the host's root."""
    directories = trial.filesystems([context.run_dir, context.cache_dir, context.state_dir, Path("/")])
    problems = await trial.untranslatable(binary, directories, place)
    lines = []
    for directory in directories:
        name = "idmapped mounts"
        if problem := problems.get(directory):
            lines.append(
                HostCheck(
                    name=name,
                    outcome=WARNING,
                    found=f"not for the file system of {directory}",
                    meaning=f"A pod that uses files there has no full jail: {problem}.",
                    remedy="keep root file systems, mounts and the directories of pods on ext4, xfs, btrfs or tmpfs",
                )
            )
        else:
            lines.append(
                HostCheck(
                    name=name,
                    outcome=OK,
                    found=f"for the file system of {directory}",
                    meaning="QEMU in a full jail can read files there, and what it writes gets the owners of the host.",
                )
            )
    return lines
