"""Translates calls of the core into requests of the guest's dialect."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import astuple

from vc_agent_hyperstart.dialect import Dialect
from vc_agent_hyperstart.requests import (
    CapabilitySpec,
    Env,
    FileMap,
    Interface,
    IPAddress,
    NewContainer,
    Node,
    ProcessSpec,
    RLimitSpec,
    Route,
    StartPod,
)
from vc_core.driver import (
    CAPABILITIES,
    DEFAULT_CAPABILITIES,
    Cmd,
    Confinement,
    GuestContainer,
    GuestCopy,
    GuestInterface,
    GuestMount,
    GuestNetwork,
    RLimit,
    TerminalSize,
)
from vc_core.errors import ConfigError, NotSupportedError

#: Mount tags: of the shared directory (v0.1.0's name) and, for this project's guest, of the same directory uncached and
#: of the directory that it may write to.
SHARE_TAG = "hyperShared"
LIVE_TAG = "hyperLive"
WRITABLE_TAG = "hyperWritable"
#: And of the one with the root file systems that containers write to.
ROOTS_TAG = "hyperRoots"

#: Longest entry of ``dns`` in an original, which stores each in 28 bytes.
_ORIGINAL_DNS_MAX = 27


def start_pod(
    dialect: Dialect, hostname: str, root_fs: str, network: GuestNetwork, *, writable_dir: bool, roots_dir: bool = False
) -> StartPod:
    """Return STARTPOD for a pod without containers.

    ``writable_dir``: the pod has a directory that it may write to; ``roots_dir``: one of roots that it may write to.

    Raises ConfigError, NotSupportedError.
    """
    if not hostname:
        raise ConfigError("the pod has no host name, without which an original hyperstart never answers; give one")
    if root_fs:
        check_below_share("root_fs of the pod", root_fs)
    if not dialect.ours:
        _check_original_network(network)
    return StartPod(
        hostname,
        (),
        SHARE_TAG,
        interfaces=tuple(_interface(one) for one in network.interfaces),
        routes=tuple(Route(route.destination, route.gateway, route.device) for route in network.routes),
        dns=network.dns,
        root_fs=root_fs,
        live_dir=LIVE_TAG if dialect.ours else "",
        writable_dir=WRITABLE_TAG if dialect.ours and writable_dir else "",
        roots_dir=ROOTS_TAG if "writable-roots" in dialect.features and roots_dir else "",
    )


def _interface(interface: GuestInterface) -> Interface:
    addresses = tuple(IPAddress(*address.split("/")) for address in interface.addresses)
    if len(addresses) == 1:
        (one,) = addresses
        return Interface(interface.device, one.ip_address, one.net_mask, mtu=interface.mtu, mac=interface.mac)
    return Interface(interface.device, ip_addresses=addresses, mtu=interface.mtu, mac=interface.mac)


def _check_original_network(network: GuestNetwork) -> None:
    """Check a network against what an original supports. Raises NotSupportedError."""
    texts = [address for interface in network.interfaces for address in interface.addresses]
    texts += [text for route in network.routes for text in (route.destination, route.gateway) if text != "default"]
    for text in filter(None, texts):
        if ipaddress.ip_interface(text).version != 4:
            raise NotSupportedError(f"the guest's hyperstart is an original, which has only IPv4 and not {text}")
    for interface in network.interfaces:
        if not interface.addresses:
            raise NotSupportedError(
                f"the guest's hyperstart is an original and needs an address for {interface.device}; give one"
            )
    for entry in network.dns:
        if len(entry) > _ORIGINAL_DNS_MAX:
            raise NotSupportedError(
                f"dns entry {entry!r} is longer than the {_ORIGINAL_DNS_MAX} characters of an original hyperstart, "
                "which the guest has"
            )


def new_container(
    dialect: Dialect, container: GuestContainer, process: ProcessSpec, *, writable_dir: bool
) -> NewContainer:
    """Return NEWCONTAINER with ``process`` as its first one. ``writable_dir``: the pod has one, for its mounts.

    Raises ConfigError, NotSupportedError.
    """
    what, disk, confinement = f"container {container.id!r}", container.disk, container.confinement
    if disk is None:
        if container.writable_root_fs and "writable-roots" not in dialect.features:
            raise NotSupportedError(
                f"the agent in the guest lets no container write to the directory that is its root, as {what} should; "
                "leave writable_root_fs out"
            )
        check_below_share(f"root_fs of {what}", container.root_fs)
        fstype = addr = ""
        image, _, rootfs = container.root_fs.partition("/")
    else:
        if not (dialect.ours or container.writable_root_fs):
            raise NotSupportedError(
                f"the guest's hyperstart is an original, which writes to the disk that is the root of {what}; "
                "set writable_root_fs if it may"
            )
        fstype, addr, image, rootfs = disk.fstype, disk.location.scsi, disk.location.name, ""
    for mount in container.mounts:
        _check_mount(dialect, mount, what, writable_dir=writable_dir)
    confined = "confinement" in dialect.features
    return NewContainer(
        container.id,
        image,
        rootfs,
        process,
        False,
        fstype=fstype,
        addr=addr,
        fsmap=tuple(map(_file_map, container.mounts)),
        overlay="overlay" in dialect.features and not container.writable_root_fs,
        overlay_size=confinement.overlay_size,
        writable_root=disk is None and container.writable_root_fs,
        read_only=confinement.read_only,
        memory=confinement.memory,
        pids=confinement.pids,
        cpus=thousandths(confinement.cpus),
        rlimits=_rlimits(confinement.rlimits),
        capabilities=_capabilities(confinement, confined=confined),
        no_new_privs=confinement.no_new_privs and confined,
        isolate=confinement.isolate,
        seccomp=container.seccomp.hex(),
        devices=tuple(Node(*astuple(device)) for device in container.devices),
        masked_paths=confinement.masked_paths,
        readonly_paths=confinement.read_only_paths,
        shared_memory=container.shm_size,
        own_pids=confinement.pid_namespace == "own",
    )


def _file_map(mount: GuestMount) -> FileMap:
    tmpfs = mount.type == "tmpfs"
    return FileMap(
        mount.source,
        mount.target,
        mount.read_only,
        writable=not (mount.read_only or tmpfs),
        tmpfs=tmpfs,
        size=mount.size,
        mode=mount.mode if tmpfs else 0,
        no_exec="noexec" in mount.options,
        no_suid="nosuid" in mount.options,
    )


def thousandths(cpus: float) -> int:
    """Return a number of processors as the guest counts them; not 0, which is no limit, for a small one."""
    return max(round(cpus * 1000), int(cpus > 0))


def _rlimits(limits: Sequence[RLimit]) -> tuple[RLimitSpec, ...]:
    return tuple(RLimitSpec(limit.name, limit.soft, limit.hard) for limit in limits)


def _check_mount(dialect: Dialect, mount: GuestMount, what: str, *, writable_dir: bool) -> None:
    """Check a mount against what the pod and its guest support. Raises ConfigError, NotSupportedError."""
    if mount.type == "tmpfs":
        return
    check_below_share(f"the source of mount {mount.target!r} of {what}", mount.source)
    if mount.read_only:
        return
    if not dialect.ours:
        raise NotSupportedError(
            f"the guest's hyperstart is an original, so mount {mount.target!r} of {what} can only be read-only"
        )
    if not writable_dir:
        raise ConfigError(
            f"mount {mount.target!r} of {what} is writable, but its pod was started without a directory for such mounts"
        )


def _capabilities(confinement: Confinement, *, confined: bool) -> Sequence[str] | None:
    """Return the capabilities to send: None for all, and for the default if the guest cannot drop any."""
    if confinement.capabilities == CAPABILITIES or (not confined and confinement.capabilities == DEFAULT_CAPABILITIES):
        return None
    return confinement.capabilities


def process(
    dialect: Dialect, cmd: Cmd, streams: tuple[int, int], terminal: TerminalSize | None, *, has_input: bool
) -> ProcessSpec:
    """Return the process that runs ``cmd``; ``streams`` are its ``stdio`` and ``stderr``."""
    stdio, stderr = streams
    size = terminal if terminal and dialect.ours else TerminalSize()
    return ProcessSpec(
        terminal=terminal is not None,
        stdio=stdio,
        stderr=stderr,
        args=cmd.args,
        workdir=cmd.work_dir,
        envs=tuple(Env(env.var, env.value) for env in cmd.envs),
        user=cmd.user,
        group=cmd.group,
        additional_groups=cmd.additional_groups,
        exact_groups=cmd.exact_groups,
        umask=cmd.umask,
        capabilities=None if cmd.capabilities is None else CapabilitySpec(*astuple(cmd.capabilities)),
        rlimits=None if cmd.rlimits is None else _rlimits(cmd.rlimits),
        no_new_privs=cmd.no_new_privs,
        oom_score_adj=cmd.oom_score_adj,
        id=str(stdio) if dialect.by_id else "",
        no_input=dialect.ours and terminal is None and not has_input,
        rows=size.rows,
        columns=size.columns,
    )


def archive(copy: GuestCopy) -> tuple[str, tuple[str, ...]]:
    """Return the ``archive`` of the process that performs a copy, and its ``args``."""
    if copy.into:
        return "unpack", (copy.path, copy.name)
    return "pack-target" if copy.follow else "pack", (copy.path,)


def check_below_share(what: str, path: str) -> None:
    """Check that a path does not lead out of the shared directory. Raises ConfigError."""
    if not path or path.startswith("/") or ".." in path.split("/"):
        raise ConfigError(f"{what} is {path!r}, which is not below the share")
