"""What callers say about pods, containers and commands: frozen, validated when made.

Names are those of virtcontainers v0.1.0 in snake_case. Sequences may be given as any sequence and are kept as tuples.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vc_core.defaults import DEFAULT_AGENT, DEFAULT_HYPERVISOR
from vc_core.devices import MOUNT_TAG_MAX
from vc_core.errors import ConfigError
from vc_core.ids import check_id
from vc_core.limits import DEFAULT_CAPABILITIES, RLimit, full_capabilities
from vc_core.network import NetworkConfig

#: Bytes of arguments and environment of one command, together: one message to the supervisor carries them.
COMMAND_BYTES_MAX = 128 * 1024

_ENV_NAME = re.compile(r"[^=\0]+")


def _set(instance: object, **values: object) -> None:
    for name, value in values.items():
        object.__setattr__(instance, name, value)


def _texts(what: str, values: Iterable[str]) -> tuple[str, ...]:
    if isinstance(values, str):
        raise ConfigError(f"{what} is the string {values!r}; give a list of strings")
    texts = tuple(values)
    for text in texts:
        if not isinstance(text, str):
            raise ConfigError(f"{what} holds {text!r}, which is not a string")
        if "\0" in text:
            raise ConfigError(f"{what} holds {text!r}; no string may contain a NUL character")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ConfigError(
                f"{what} holds {text!r}, which is not valid UTF-8; encode such data or use stdin"
            ) from None
    return texts


def _path_text(path: Any) -> str:
    """Return a path given as str or PathLike as absolute text, for processes that work elsewhere; empty stays empty.

    Raises ConfigError for a path that is not in UTF-8.
    """
    text = path if isinstance(path, str) else str(path)
    absolute = str(Path(text).absolute()) if text else ""
    try:
        absolute.encode()
    except UnicodeEncodeError:
        # Records and requests are JSON.
        raise ConfigError(f"path {absolute!r} is not in UTF-8; rename it, or give a link to it") from None
    return absolute


def _check_count(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**31:
        raise ConfigError(f"{name} is {value!r}; give a whole number, 0 for the default")


def _parts(what: str, text: str, form: str, access: bool = False) -> tuple[list[str], bool]:
    """Return the parts of a text such as ``TAG:PATH``, and whether it means read-only access (``:rw`` at its end)."""
    parts = text.split(":")
    read_only = not access or parts[-1] not in ("rw", "ro") or parts.pop() == "ro"
    if len(parts) != form.count(":") + 1 or not all(parts):
        raise ConfigError(f"{what} {text!r} is not of the form {form}{'[:rw]' if access else ''}")
    return parts, read_only


def _joined(*parts: str, read_only: bool = True) -> str:
    return ":".join((*parts, *([] if read_only else ["rw"])))


@dataclass(frozen=True, slots=True)
class EnvVar:
    """One variable of a command's environment."""

    var: str
    value: str

    @classmethod
    def parse(cls, text: str) -> EnvVar:
        """Return the variable that ``NAME=VALUE`` says. Raises ConfigError."""
        var, separator, value = text.partition("=")
        if not separator:
            raise ConfigError(f"environment variable {text!r} is not of the form NAME=VALUE")
        return cls(var, value)

    def __str__(self) -> str:
        return f"{self.var}={self.value}"

    def __post_init__(self) -> None:
        _texts("environment variable", (self.var, self.value))
        if not _ENV_NAME.fullmatch(self.var):
            raise ConfigError(f"environment variable name {self.var!r} is not valid: it is empty or contains '='")


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter of the kernel or hypervisor: ``key``, ``key=value``, or a bare ``value``."""

    key: str
    value: str = ""

    @classmethod
    def parse(cls, text: str) -> Param:
        """Return the parameter that ``KEY`` or ``KEY=VALUE`` says."""
        key, _, value = text.partition("=")
        return cls(key, value)

    def __str__(self) -> str:
        return "=".join(part for part in (self.key, self.value) if part)


@dataclass(frozen=True, slots=True)
class Volume:
    """A host directory that the guest can mount by ``mount_tag`` (31 bytes at most); for containers see :class:`Mount`.

    Unless ``read_only``, the guest can write, under the same rules as for a mount.
    """

    mount_tag: str
    host_path: str
    read_only: bool = True

    def __post_init__(self) -> None:
        _set(self, host_path=_path_text(self.host_path))
        if not self.mount_tag or not self.host_path:
            raise ConfigError(f"volume {self.mount_tag!r}:{self.host_path!r} needs both a mount tag and a host path")
        if len(self.mount_tag.encode()) > MOUNT_TAG_MAX:
            raise ConfigError(
                f"mount tag {self.mount_tag!r} has {len(self.mount_tag.encode())} bytes; {MOUNT_TAG_MAX} at most"
            )

    @classmethod
    def parse(cls, text: str) -> Volume:
        """Return the volume that ``TAG:PATH``, or ``TAG:PATH:rw``, says. Raises ConfigError."""
        (tag, path), read_only = _parts("volume", text, "TAG:PATH", access=True)
        return cls(tag, path, read_only)

    def __str__(self) -> str:
        return _joined(self.mount_tag, self.host_path, read_only=self.read_only)


@dataclass(frozen=True, slots=True)
class Socket:
    """A socket on the host that a program in the VM reaches as the serial port ``name``.

    ``id`` is unique in the pod; ``device_id`` is v0.1.0's, and drivers name their devices themselves.
    """

    device_id: str
    id: str
    host_path: str
    name: str

    def __post_init__(self) -> None:
        _set(self, host_path=_path_text(self.host_path))
        if not (self.device_id and self.id and self.host_path and self.name):
            raise ConfigError(f"socket {str(self)!r} needs device_id, id, host_path and name")

    @classmethod
    def parse(cls, text: str) -> Socket:
        """Return the socket that ``DEVICE:ID:PATH:NAME`` says. Raises ConfigError."""
        parts, _ = _parts("socket", text, "DEVICE:ID:PATH:NAME")
        return cls(*parts)

    def __str__(self) -> str:
        return _joined(self.device_id, self.id, self.host_path, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What the VM gets. Zero means the default of the hypervisor driver."""

    vcpus: int = 0  #: virtual CPUs
    memory: int = 0  #: MiB

    def __post_init__(self) -> None:
        for name in ("vcpus", "memory"):
            _check_count(name, getattr(self, name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cmd:
    """A command to run in a container: ``args[0]`` is looked up in PATH of ``envs``."""

    args: Sequence[str] = ()  #: program and arguments
    envs: Sequence[EnvVar] = ()  #: its environment; a PATH is added if there is none
    work_dir: str = "/"  #: directory that it starts in
    user: str = ""  #: name or number in the container; empty: root
    group: str = ""  #: name or number; empty: the user's own
    additional_groups: Sequence[str] = ()  #: names or numbers, besides those that list the user

    def __post_init__(self) -> None:
        _set(
            self,
            args=_texts("a command's args", self.args),
            envs=tuple(self.envs),
            additional_groups=_texts("a command's additional_groups", self.additional_groups),
        )
        _texts("a command's work_dir, user or group", (self.work_dir, self.user, self.group))
        size = sum(len(text.encode()) + 1 for text in self.args)
        size += sum(len(env.var.encode()) + len(env.value.encode()) + 2 for env in self.envs)
        if size > COMMAND_BYTES_MAX:
            raise ConfigError(
                f"the command's arguments and environment have {size} bytes; {COMMAND_BYTES_MAX} at most: "
                "pass large data on stdin"
            )


@dataclass(frozen=True, slots=True)
class Mount:
    """A file or directory of the host, ``source``, seen in a container at the absolute path ``target``.

    Unless ``read_only``, the container can write: owners and modes that it gives are kept in extended attributes of
    the host's files, so that it cannot plant a set-user-id program or a device there.
    """

    source: str
    target: str
    read_only: bool = True

    def __post_init__(self) -> None:
        _set(self, source=_path_text(self.source))
        _texts("mount", (self.source, self.target))
        if not self.source:
            raise ConfigError(f"mount on {self.target!r} has no source; name a file or directory of the host")
        if not self.target.startswith("/") or ".." in self.target.split("/") or not self.target.strip("/"):
            raise ConfigError(f"mount target {self.target!r} is not an absolute path below / in the container")

    @classmethod
    def parse(cls, text: str) -> Mount:
        """Return the mount that ``SOURCE:TARGET``, or ``SOURCE:TARGET:rw``, says. Raises ConfigError."""
        (source, target), read_only = _parts("mount", text, "SOURCE:TARGET", access=True)
        return cls(source, target, read_only)

    def __str__(self) -> str:
        return _joined(self.source, self.target, read_only=self.read_only)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerConfig:
    """One container of a pod.

    ``root_fs`` is a directory on the host: the container's root, or a bundle that holds it as ``rootfs/``; or a disk,
    an image file or block device with ext4, squashfs, erofs or xfs on it. It is shared read-only; what the container
    writes stays in the guest and is lost with it. With ``writable_root_fs`` it goes to the disk, which nobody else may
    use then; a directory cannot be written to, because a guest could plant set-user-id programs there.

    ``interactive`` with ``console``, the path of a terminal of the caller's (a pty), runs the container's command on
    that terminal; without ``console`` the container's input stays open for whoever starts it in the foreground.
    """

    id: str  #: unique in its pod
    root_fs: str = ""  #: its root, or what holds it as ``rootfs/``
    cmd: Cmd = field(default_factory=Cmd)  #: its first process: the container ends with it
    interactive: bool = False  #: its input stays open
    console: str = ""  #: terminal that it runs on
    mounts: Sequence[Mount] = ()  #: files and directories of the host that it sees
    read_only: bool = False  #: it cannot write to its root file system
    writable_root_fs: bool = False  #: what it writes there goes to the disk that is its root
    overlay_size: int = 0  #: MiB that it can write there otherwise, in the VM's memory; 0: half of that
    memory: int = 0  #: MiB that its processes may use together; 0: no limit but the VM's
    pids: int = 0  #: processes that it may have; 0: no limit but the VM's
    rlimits: Sequence[RLimit] = ()  #: limits of each of its processes
    capabilities: Sequence[str] = DEFAULT_CAPABILITIES  #: that its root user has (capabilities(7)); "ALL" for all
    no_new_privs: bool = True  #: set-user-id programs give no rights

    def __post_init__(self) -> None:
        check_id("container", self.id)
        for name in ("overlay_size", "memory", "pids"):
            _check_count(name, getattr(self, name))
        if self.read_only and self.writable_root_fs:
            raise ConfigError(f"container {self.id!r} is both read_only and has a writable_root_fs; choose one")
        _set(
            self,
            rlimits=tuple(self.rlimits),
            capabilities=full_capabilities(_texts("capabilities", self.capabilities)),
        )
        _set(
            self,
            root_fs=_path_text(self.root_fs),
            console=_path_text(self.console),
            mounts=tuple(self.mounts),
        )
        if self.console and not self.interactive:
            raise ConfigError(f"container {self.id!r} has the console {self.console!r} but is not interactive")


@dataclass(frozen=True, slots=True, kw_only=True)
class HypervisorConfig:
    """How the VM is made.

    Empty ``kernel_path`` and ``image_path`` mean the guest that the driver ``guest`` builds; empty ``hypervisor_path``
    the driver's own default. ``options`` and ``guest_options`` go to the drivers, which validate them.
    """

    kernel_path: str = ""  #: what the VM boots
    image_path: str = ""  #: initramfs, or a disk where the driver takes one
    hypervisor_path: str = ""  #: the program; a bare name is looked up in PATH
    kernel_params: Sequence[Param] = ()  #: added after those that guest and hypervisor need
    hypervisor_params: Sequence[Param] = ()  #: of those that the driver allows
    guest: str = ""  #: name of a driver; empty: the one that the hypervisor names, mostly "debian"
    guest_options: Mapping[str, Any] = field(default_factory=dict)  #: of the guest driver
    options: Mapping[str, Any] = field(default_factory=dict)  #: of the hypervisor driver

    def __post_init__(self) -> None:
        _set(
            self,
            kernel_path=_path_text(self.kernel_path),
            image_path=_path_text(self.image_path),
            # A bare name is looked up in PATH.
            hypervisor_path=_path_text(path) if "/" in (path := str(self.hypervisor_path)) else path,
            kernel_params=tuple(self.kernel_params),
            hypervisor_params=tuple(self.hypervisor_params),
            options=dict(self.options),
            guest_options=dict(self.guest_options),
        )
        if bool(self.kernel_path) != bool(self.image_path):
            given, missing = ("kernel_path", "image_path") if self.kernel_path else ("image_path", "kernel_path")
            raise ConfigError(f"{given} is {getattr(self, given)!r} but {missing} is empty; give both or neither")


@dataclass(frozen=True, slots=True, kw_only=True)
class PodConfig:
    """A pod: one VM and the containers that run in it. An empty ``id`` means a new UUID."""

    id: str = ""  #: letters, digits and ``_.-``, 64 at most
    vm_config: Resources = field(default_factory=Resources)  #: how large the VM is
    hypervisor_type: str = DEFAULT_HYPERVISOR  #: name of a driver
    hypervisor_config: HypervisorConfig = field(default_factory=HypervisorConfig)  #: how it is made
    agent_type: str = DEFAULT_AGENT  #: name of a driver
    agent_config: Any = field(default_factory=dict)  #: a mapping, or the driver's own configuration object
    root_fs: str = ""  #: the pod's own root file system, for commands in it; empty: the guest's
    volumes: Sequence[Volume] = ()  #: directories that programs in the guest can mount
    sockets: Sequence[Socket] = ()  #: serial ports of the guest that are sockets here
    containers: Sequence[ContainerConfig] = ()  #: those that exist from the beginning
    network: NetworkConfig = field(default_factory=NetworkConfig)  #: how it is connected; by default not at all

    def __post_init__(self) -> None:
        if self.id:
            check_id("pod", self.id)
        _set(
            self,
            root_fs=_path_text(self.root_fs),
            agent_config=_agent_options(self.agent_config),
            volumes=tuple(self.volumes),
            sockets=tuple(self.sockets),
            containers=tuple(self.containers),
        )
        for what, names in (
            ("container id", [container.id for container in self.containers]),
            ("mount tag", [volume.mount_tag for volume in self.volumes]),
        ):
            for name in names:
                if names.count(name) > 1:
                    raise ConfigError(f"{what} {name!r} is used twice in one pod")

    def with_id(self, pod_id: str) -> PodConfig:
        """Return this configuration under another id."""
        return replace(self, id=pod_id)


def _agent_options(config: Any) -> dict[str, Any]:
    """Return an agent's options as a mapping, from a mapping or from a driver's own frozen configuration."""
    if config is None:
        return {}
    if isinstance(config, Mapping):
        return dict(config)
    to_mapping = getattr(config, "to_mapping", None)
    if to_mapping is None:
        raise ConfigError(f"agent_config is {config!r}; give a mapping or the driver's configuration object")
    return dict(to_mapping())
