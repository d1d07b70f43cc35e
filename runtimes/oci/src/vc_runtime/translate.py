"""Makes configurations of vc_core of a bundle's, lists what is left out, and refuses what no virtual machine can do.

Pure but for looks at the kinds of mounted files.
"""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vc_core import CapabilitySets, Cmd, ContainerConfig, DeviceNode, EnvVar, Mount, PodConfig, RLimit, VCError
from vc_core import Resources as Size
from vc_runtime import seccomp
from vc_runtime import spec as oci
from vc_runtime.faults import Refused, RuntimeFault
from vc_runtime.namespaces import HOST_NETWORK

#: Annotations that choose the size of a VM: ours, and those that the CRI gives for a whole sandbox (containerd,
#: pkg/cri/annotations; cri-o has none).
VCPUS, MEMORY = "io.virtcontainers.vcpus", "io.virtcontainers.memory"
_SANDBOX_MEMORY = "io.kubernetes.cri.sandbox-memory"
_SANDBOX_QUOTA, _SANDBOX_PERIOD = "io.kubernetes.cri.sandbox-cpu-quota", "io.kubernetes.cri.sandbox-cpu-period"

#: Annotations that name the container whose VM a container shares: of the CRI, and of podman and cri-o.
_SANDBOXES = ("io.kubernetes.cri.sandbox-id", "io.kubernetes.cri-o.SandboxID")

#: Microseconds in which a quota of processor time counts, unless a period is given (cpu.max of the kernel).
_CPU_PERIOD = 100_000

#: MiB that a VM has beside what its containers may use: kernel, agent, page tables.
OVERHEAD = 128

#: MiB of a VM at least.
_SMALLEST = 256

#: Ids of containers in which buildah, and so `podman build`, runs the commands of a build (its run_common.go).
_OF_A_BUILD = re.compile(r"buildah-buildah\d+", re.ASCII)

MountOption = Literal["noexec", "nosuid", "nodev"]

#: MiB of /dev/shm in containers of all engines, unless they are asked for another.
_SHM_SIZE = 64

#: MiB that no engine gives it: the directory is on a disk then.
_SHM_SIZE_MAX = 64 * 1024

_MOUNT_OPTIONS: tuple[MountOption, ...] = ("noexec", "nosuid", "nodev")

_HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{,62}[A-Za-z0-9])?", re.ASCII)

#: What the guest's agent mounts in each container by itself.
_OWN_MOUNTS = frozenset(
    {"/proc", "/sys", "/sys/fs/cgroup", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/proc/sys", "/run/lock"}
)

#: Where each container has the guest's control groups; engines bind those of the host there for systemd.
_CGROUPS = "/sys/fs/cgroup"

#: Files of an engine that it alone writes: the container reads them.
_ENGINE_FILES = frozenset({"/etc/resolv.conf", "/etc/hosts", "/etc/hostname", "/run/.containerenv", "/run/secrets"})

#: Device nodes that are in each container.
_OWN_DEVICES = frozenset({"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"})


#: Device nodes that a container can have besides, because the guest's kernel has their drivers, virtual terminals too:
#: major and minor number (admin-guide/devices.txt of Linux).
_GUEST_DEVICES = {
    "/dev/fuse": (10, 229),
    "/dev/net/tun": (10, 200),
    **{f"/dev/tty{number}": (4, number) for number in range(64)},
}


@dataclass(frozen=True, slots=True)
class Translated:
    """A container for vc_core, a pod for it alone or to begin with, and a sentence for each thing that is left out."""

    container: ContainerConfig
    pod: PodConfig
    notes: tuple[str, ...]


def sandbox(spec: oci.Spec, container_id: str) -> str:
    """Return the id of the container whose VM annotations say that this one shares, "" for none."""
    named = _named(spec)
    return "" if named == container_id else named


def _named(spec: oci.Spec) -> str:
    return next((spec.annotations[name] for name in _SANDBOXES if spec.annotations.get(name)), "")


def _of_process(spec: oci.Spec, kind: str) -> bool:
    """Return whether a container is in the namespace of a process, that is of another container."""
    namespace = spec.namespace(kind)
    return namespace is not None and namespace.path.startswith("/proc/")


def is_of_a_build(container_id: str) -> bool:
    """Return whether the result of a container is what it writes to its root."""
    return _OF_A_BUILD.fullmatch(container_id) is not None


def check(spec: oci.Spec, container_id: str, shares: str = "", why_lost: str = "") -> None:
    """Refuse what no virtual machine can do, each with one sentence. Raises Refused, RuntimeFault.

    ``shares``: id of the container whose VM it shares, "" for a VM of its own. ``why_lost``: why what it writes to its
    root is lost, "" if it is not.
    """
    if is_of_a_build(container_id) and why_lost:
        raise Refused(
            "a RUN of a build would lose what it writes, which is in the memory of a virtual machine; build with "
            f"--runtime runc or --isolation chroot, or so that it can write to its root: {why_lost}"
        )
    if spec.process is None or not spec.process.args:
        raise RuntimeFault("config.json has no process.args; name the program that the container runs")
    if spec.root is None or not spec.root.path:
        raise RuntimeFault("config.json has no root.path; name the container's root file system")
    if spec.namespace("network") is None:
        raise Refused(HOST_NETWORK)
    if spec.namespace("pid") is None:
        raise Refused("a container in a virtual machine cannot see the host's processes; give it a pid namespace")
    if spec.namespace("ipc") is None:
        raise Refused("a container in a virtual machine cannot have the host's IPC; give it an ipc namespace")
    if not shares and _of_process(spec, "ipc"):
        raise Refused("the IPC of another container is in another virtual machine; share its network too")
    if _of_process(spec, "pid") and not _named(spec):
        raise Refused("the processes of another container are in another virtual machine; run both in a pod")
    if (user := spec.namespace("user")) is not None and (user.path or spec.linux.uid_mappings):
        raise Refused("a virtual machine has user ids of its own; run the container without a user namespace")
    if not _is_privileged(spec) and (given := _host_devices(spec)):
        raise Refused(f"device {given[0]} of the host cannot be in a virtual machine; run the container without it")


def _host_devices(spec: oci.Spec) -> list[str]:
    return [one.path for one in spec.linux.devices if one.path not in {*_OWN_DEVICES, *_GUEST_DEVICES}]


def _is_privileged(spec: oci.Spec) -> bool:
    """Return whether an engine gives a container all devices that the host has, whether it needs them or not."""
    return spec.linux.resources is not None and spec.linux.resources.every_device


def translate(
    spec: oci.Spec,
    container_id: str,
    bundle: Path,
    compiled: Callable[[oci.Seccomp | None, list[str]], bytes] = seccomp.program,
) -> Translated:
    """Return a checked bundle as a configuration. Raises RuntimeFault.

    ``container_id``: its id for vc_core. ``compiled``: returns the program of a seccomp profile, and adds to the notes.
    """
    process, root = spec.process, spec.root
    assert process is not None
    assert root is not None
    notes: list[str] = []
    memory, pids, cpus = limits(spec.linux.resources or oci.Resources())
    try:
        container = ContainerConfig(
            id=container_id,
            root_fs=str(root_path(spec, bundle)),
            cmd=command(process),
            read_only=root.readonly,
            mounts=_mounts(spec.mounts, bundle, notes),
            memory=memory or 0,
            pids=pids or 0,
            cpus=cpus or 0.0,
            capabilities=_names(process.capabilities.bounding if process.capabilities else None),
            rlimits=_rlimits(process.rlimits),
            no_new_privs=process.no_new_privileges,
            seccomp=compiled(spec.linux.seccomp, notes),
            masked_paths=_in_container(spec.linux.masked_paths),
            read_only_paths=_in_container(spec.linux.readonly_paths),
            devices=_devices(spec.linux.devices),
            pid_namespace="pod" if _pid_path(spec) else "own",
        )
        pod = _pod(spec, notes)
    except VCError as error:
        raise RuntimeFault(str(error)) from error
    _note_the_rest(spec, notes)
    return Translated(container, pod, tuple(notes))


def limits(resources: oci.Resources) -> tuple[int | None, int | None, float | None]:
    """Return MiB of memory, processes and processors; 0 for no limit, None for what the resources do not say."""
    memory, pids, cpu = resources.memory, resources.pids, resources.cpu
    return (
        None if memory is None or memory.limit is None else _mib(memory.limit),
        None if pids is None else max(pids.limit, 0),
        None if cpu is None or cpu.quota is None else max(cpu.quota, 0) / (cpu.period or _CPU_PERIOD),
    )


def root_path(spec: oci.Spec, bundle: Path) -> Path:
    """Return the root file system of a bundle, whose path may be relative to it."""
    assert spec.root is not None
    return bundle / spec.root.path


def command(process: oci.Process) -> Cmd:
    """Return the command of a process, which has the rest from its container. Raises ConfigError, RuntimeFault."""
    if not process.args:
        raise RuntimeFault("the process has no args; name its program")
    return Cmd(
        process.args,
        envs=[EnvVar(*one.partition("=")[::2]) for one in process.env if "=" in one and not one.startswith("=")],
        work_dir=process.cwd,
        user=str(process.user.uid),
        group=str(process.user.gid),
        additional_groups=[str(one) for one in dict.fromkeys(process.user.additional_gids) if one != process.user.gid],
        exact_groups=True,
        umask=process.user.umask,
        capabilities=_capabilities(process.capabilities),
        rlimits=_rlimits(process.rlimits) or None,
        no_new_privs=process.no_new_privileges,
        oom_score_adj=process.oom_score_adj,
    )


def _capabilities(sets: oci.Capabilities | None) -> CapabilitySets | None:
    """Return the sets without what the kernel refuses, such as an ambient one that is not inheritable, as runc does."""
    if sets is None:
        return None
    bounding, permitted = _names(sets.bounding), _names(sets.permitted)
    inheritable = [one for one in _names(sets.inheritable) if one in bounding]
    return CapabilitySets(
        bounding=bounding,
        permitted=permitted,
        effective=[one for one in _names(sets.effective) if one in permitted],
        inheritable=inheritable,
        ambient=[one for one in _names(sets.ambient) if one in permitted and one in inheritable],
    )


def _devices(devices: Sequence[oci.Device]) -> list[DeviceNode]:
    found = []
    for one in devices:
        if one.path in _GUEST_DEVICES:
            major, minor = _GUEST_DEVICES[one.path]
            mode = one.file_mode & 0o777
            found.append(DeviceNode(path=one.path, major=major, minor=minor, mode=mode, uid=one.uid, gid=one.gid))
    return found


def _names(capabilities: Sequence[str] | None) -> list[str]:
    return [one.removeprefix("CAP_") for one in capabilities or ()]


def _in_container(paths: Sequence[str]) -> list[str]:
    """Return the paths that the core takes; / itself cannot be protected so."""
    return [one for one in paths if one.startswith("/") and one.strip("/") and ".." not in one.split("/")]


def _pid_path(spec: oci.Spec) -> str:
    """Return the file of the pid namespace of another container, "" for a new one."""
    namespace = spec.namespace("pid")
    return "" if namespace is None else namespace.path


def _pod(spec: oci.Spec, notes: list[str]) -> PodConfig:
    """Return a pod with what the bundle says of a whole VM. Others may join that, which podman does not announce."""
    hostname = spec.hostname or ("" if spec.namespace("uts") else os.uname().nodename)
    if hostname and not _HOSTNAME.fullmatch(hostname):
        notes.append(f"host name {hostname!r} is left out, because it is none")
        hostname = ""
    return PodConfig(
        vm_config=_size(spec),
        hostname=hostname,
        sysctls=spec.linux.sysctl,
        shm_size=_shm_size(spec.mounts),
        writable_mounts=True,
    )


def _shm_size(mounts: Sequence[oci.Mount]) -> int:
    """Return the MiB of /dev/shm: of its mount, or of the file system that the engine has mounted for it."""
    mount = next((one for one in mounts if one.destination.rstrip("/") == "/dev/shm"), None)
    if mount is None or mount.type == "tmpfs":
        return _tmpfs_size(mount.options if mount else ()) or _SHM_SIZE
    with suppress(OSError):
        status = os.statvfs(mount.source)
        if (size := _mib(status.f_blocks * status.f_frsize)) < _SHM_SIZE_MAX:
            return size
    return _SHM_SIZE


def _tmpfs_size(options: Sequence[str]) -> int:
    """Return the MiB of a tmpfs, rounded up, 0 where its options say nothing that can be counted (tmpfs(5))."""
    text = next((one.partition("=")[2].lower() for one in options if one.startswith("size=")), "")
    match = re.fullmatch(r"(\d+)([kmg]?)", text, re.ASCII)
    return _mib(int(match[1]) * 1024 ** " kmg".index(match[2] or " ")) if match else 0


def _rlimits(limits: Sequence[oci.Limit]) -> list[RLimit]:
    infinite = 2**64 - 1

    def value(number: int) -> int | None:
        return None if number >= infinite or number < 0 else number

    return [RLimit(one.type.removeprefix("RLIMIT_").lower(), value(one.soft), value(one.hard)) for one in limits]


def _mib(number: int | None) -> int:
    """Return bytes as MiB, rounded up; 0 for no limit."""
    return 0 if number is None or number <= 0 else math.ceil(number / 2**20)


def _size(spec: oci.Spec) -> Size:
    """Return the size of a VM: of annotations, of what the sandbox or container may use, or the host's default."""
    given = spec.annotations
    resources = spec.linux.resources or oci.Resources()
    limit = _mib(_number(given, _SANDBOX_MEMORY)) or _mib(resources.memory.limit if resources.memory else None)
    memory = _number(given, MEMORY) or (max(limit + OVERHEAD, _SMALLEST) if limit else 0)
    quota, period = _number(given, _SANDBOX_QUOTA), _number(given, _SANDBOX_PERIOD)
    if not quota and resources.cpu is not None:
        quota, period = resources.cpu.quota or 0, resources.cpu.period or 0
    vcpus = _number(given, VCPUS) or (math.ceil(quota / (period or _CPU_PERIOD)) if quota and quota > 0 else 0)
    return Size(vcpus=vcpus, memory=memory)


def _number(annotations: dict[str, str], name: str) -> int:
    text = annotations.get(name, "").strip()
    if not text:
        return 0
    if not text.lstrip("-").isdecimal():
        raise RuntimeFault(f"annotation {name} is {text!r}; give a whole number")
    return max(int(text), 0)


def _mounts(mounts: Sequence[oci.Mount], bundle: Path, notes: list[str]) -> list[Mount]:
    found: dict[str, Mount] = {}
    for one in mounts:
        target = "/" + one.destination.strip("/")
        kind = "bind" if one.type == "bind" or {"bind", "rbind"} & set(one.options) else one.type
        if kind == "tmpfs" and target not in _OWN_MOUNTS:
            mode = next((one[5:] for one in one.options if re.fullmatch("mode=[0-7]{1,4}", one)), "1777")
            found.pop(target, None)
            found[target] = Mount(
                target=target,
                type="tmpfs",
                read_only=False,
                size=_tmpfs_size(one.options),
                mode=int(mode, 8),
                options=_options(one.options),
            )
            continue
        if kind != "bind":
            if target not in _OWN_MOUNTS:
                notes.append(f"mount {target} of type {kind} is left out")
            continue
        if target.startswith(f"{_CGROUPS}/"):
            notes.append(f"mount {target} is left out: the guest has control groups of its own")
            continue
        source = bundle / one.source
        what = _unmountable(source)
        if what and target in _OWN_MOUNTS:
            continue
        if what:
            notes.append(f"mount {target} is left out, because {source} {what}")
            continue
        if target == "/dev/shm":
            continue  # the engine's own, which the containers of a pod share; the guest has another
        read_only = "ro" in one.options
        if not read_only and any(target == name or target.startswith(name + "/") for name in _ENGINE_FILES):
            read_only = True
            notes.append(f"mount {target} is read-only, because it is a file of the engine")
        found.pop(target, None)
        found[target] = Mount(str(source), target, read_only, options=_options(one.options))
    return list(found.values())


def _options(options: Sequence[str]) -> list[MountOption]:
    return [one for one in _MOUNT_OPTIONS if one in options]


def _unmountable(source: Path) -> str:
    """Return why a source cannot be mounted in a guest, "" if it can."""
    try:
        mode = source.stat().st_mode
    except OSError as error:
        raise RuntimeFault(f"mount source {source}: {(error.strerror or '').lower()}") from error
    if stat.S_ISDIR(mode) or stat.S_ISREG(mode):
        return ""
    return "is a socket of the host" if stat.S_ISSOCK(mode) else "is neither a file nor a directory"


def _note_the_rest(spec: oci.Spec, notes: list[str]) -> None:
    """Note what of the configuration has no effect."""
    linux, process = spec.linux, spec.process
    assert process is not None
    if _is_privileged(spec) and _host_devices(spec):
        notes.append("the devices of the host are left out: a privileged container has those of its virtual machine")
    if process.apparmor_profile or process.selinux_label:
        notes.append("AppArmor and SELinux labels are left out: the guest's kernel has neither")
    if linux.rootfs_propagation in ("shared", "rshared"):
        notes.append("mount propagation is left out: the guest has mounts of its own")
    if spec.hooks.create_container or spec.hooks.start_container:
        notes.append("hooks that run in the container are left out: they are programs of the host")
