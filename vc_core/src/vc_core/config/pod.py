"""PodConfig: the configuration of a pod, its VM, volumes and sockets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, field, fields, is_dataclass, replace
from typing import Annotated, Any

import msgspec

from vc_core.config.container import ContainerConfig
from vc_core.config.fields import Count, HostPath, HostProgram, check_fields
from vc_core.config.ids import check_id
from vc_core.config.labels import checked_labels
from vc_core.config.network import NetworkConfig
from vc_core.config.values import join_parts, quoted, set_fields, split_parts
from vc_core.errors import ConfigError
from vc_core.frozen import frozen

#: Bytes of a host name at most (HOST_NAME_MAX of linux/limits.h).
_HOSTNAME_MAX = 64

_HOSTNAME = re.compile(rf"|[A-Za-z0-9]([A-Za-z0-9.-]{{,{_HOSTNAME_MAX - 2}}}[A-Za-z0-9])?", re.ASCII)
_SYSCTL = r"(?a)[\w-]+(\.[\w-]+)+"

#: QEMU refuses longer mount tags (measured on 7.2; the virtio-9p config field holds 32 bytes).
MOUNT_TAG_MAX = 31


@frozen
class Param:
    """One parameter of the kernel or hypervisor: ``key``, ``key=value``, or a bare ``value``."""

    key: str  #: its name; empty for a bare value
    value: str = ""  #: what follows the ``=``; empty for a bare key

    def __post_init__(self) -> None:
        check_fields(self)

    @classmethod
    def parse(cls, text: str) -> Param:
        """Return the parameter given as ``KEY`` or ``KEY=VALUE``."""
        key, _, value = text.partition("=")
        return cls(key, value)

    def __str__(self) -> str:
        return "=".join(part for part in (self.key, self.value) if part)


@frozen
class Volume:
    """A host directory that the guest can mount by ``mount_tag`` (31 bytes at most); for containers see :class:`Mount`.

    Unless ``read_only``, the guest can write to it, under the same rules as for a mount.
    """

    mount_tag: str  #: name by which the guest mounts it
    host_path: HostPath  #: the directory
    read_only: bool = True  #: the guest cannot write to it

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.mount_tag or not self.host_path:
            raise ConfigError(f"volume {self.mount_tag!r}:{self.host_path!r} needs both a mount tag and a host path")
        if "/" in self.mount_tag:
            raise ConfigError(
                f"mount tag {self.mount_tag!r} is a path; a tag is a name, and 'mount' (--mount SOURCE:TARGET) shows a "
                "path of the host in a container",
                field="mount_tag",
            )
        if len(self.mount_tag.encode()) > MOUNT_TAG_MAX:
            raise ConfigError(
                f"mount tag {self.mount_tag!r} has {len(self.mount_tag.encode())} bytes; {MOUNT_TAG_MAX} at most",
                field="mount_tag",
            )

    @classmethod
    def parse(cls, text: str) -> Volume:
        """Return the volume given as ``TAG:PATH`` or ``TAG:PATH:rw``. Raises ConfigError."""
        (tag, path), read_only = split_parts("volume", text, "TAG:PATH", access=True)
        return cls(tag, path, read_only)

    def __str__(self) -> str:
        return join_parts(self.mount_tag, self.host_path, read_only=self.read_only)


@frozen
class Socket:
    """A socket on the host that a program in the VM reaches as the serial port ``name``.

    ``id`` is unique in the pod. ``device_id`` is kept from v0.1.0 and not used: drivers choose the names of devices.
    """

    device_id: str  #: not used
    id: str  #: unique in the pod
    host_path: HostPath  #: the socket
    name: str  #: of the serial port in the guest

    def __post_init__(self) -> None:
        check_fields(self)
        if not (self.device_id and self.id and self.host_path and self.name):
            raise ConfigError(f"socket {str(self)!r} needs device_id, id, host_path and name")

    @classmethod
    def parse(cls, text: str) -> Socket:
        """Return the socket given as ``DEVICE:ID:PATH:NAME``. Raises ConfigError."""
        parts, _ = split_parts("socket", text, "DEVICE:ID:PATH:NAME")
        return cls(*parts)

    def __str__(self) -> str:
        return join_parts(self.device_id, self.id, self.host_path, self.name)


@frozen(kw_only=True)
class Resources:
    """The size of the VM; the host's default is that of its configuration file, else that of the hypervisor driver."""

    vcpus: Count = 0  #: virtual CPUs; 0: the host's default
    memory: Count = 0  #: MiB; 0: the host's default

    def __post_init__(self) -> None:
        check_fields(self)


@frozen(kw_only=True)
class HypervisorConfig:
    """Settings of the VM and of the drivers that make it.

    Empty ``kernel_path`` and ``image_path`` mean the guest that the driver ``guest`` builds; empty ``hypervisor_path``
    means the driver's default. ``options`` and ``guest_options`` are passed to the drivers, which validate them.
    """

    kernel_path: HostPath = ""  #: kernel that the VM boots
    image_path: HostPath = ""  #: initramfs, or a disk where the driver takes one
    hypervisor_path: HostProgram = ""  #: the program; a bare name is looked up in PATH
    kernel_params: Sequence[Param] = ()  #: appended to those that guest and hypervisor need
    hypervisor_params: Sequence[Param] = ()  #: only those that the driver allows
    guest: str = ""  #: name of a guest driver; empty: the one that the hypervisor driver names
    guest_options: Mapping[str, Any] = field(default_factory=dict)  #: of the guest driver
    options: Mapping[str, Any] = field(default_factory=dict)  #: of the hypervisor driver
    template: bool = True  #: start as a clone of a saved VM of the same kind, where drivers and guest can

    def __post_init__(self) -> None:
        check_fields(self)
        if bool(self.kernel_path) != bool(self.image_path):
            given, missing = ("kernel_path", "image_path") if self.kernel_path else ("image_path", "kernel_path")
            raise ConfigError(
                f"{given} is {getattr(self, given)!r} but {missing} is empty; give both or neither", field=given
            )


#: Options of a driver: a mapping, or an object of the driver's own class, which becomes one.
_Options = Annotated[Any, msgspec.Meta(extra_json_schema={"type": "object"})]


@frozen(kw_only=True)
class PodConfig:
    """A pod: one VM and the containers that run in it. An empty ``id`` means a new UUID.

    The host's defaults, which its configuration file can change, are applied when the pod is created.
    """

    id: str = ""  #: letters, digits and ``_.-``, 64 at most
    vm_config: Resources = field(default_factory=Resources)  #: size of the VM
    hypervisor_type: str = ""  #: name of a hypervisor driver; empty: the host's default, which is qemu
    hypervisor_config: HypervisorConfig = field(default_factory=HypervisorConfig)  #: settings of the VM
    agent_type: str = ""  #: name of an agent driver; empty: the host's default, which is hyperstart
    agent_config: _Options = field(default_factory=dict)  #: agent driver's options: mapping or configuration object
    root_fs: HostPath = ""  #: root file system of commands in the pod itself; empty: the guest's
    volumes: Sequence[Volume] = ()  #: host directories that programs in the guest can mount
    sockets: Sequence[Socket] = ()  #: host sockets that are serial ports of the guest
    containers: Sequence[ContainerConfig] = ()  #: containers that are created with the pod
    network: NetworkConfig = field(default_factory=NetworkConfig)  #: its network; by default none
    shm_size: Count = 0  #: MiB of the /dev/shm that its containers share; 0: each has 64 MiB of its own
    hostname: str = ""  #: host name of the guest and its containers; empty: the id
    sysctls: Mapping[str, str] = field(default_factory=dict)  #: parameters of the guest's kernel, as for sysctl(8)
    labels: Mapping[str, str] = field(default_factory=dict)  #: texts by which callers find the pod, by their keys
    writable_mounts: bool = False  #: containers that are added while it runs may have mounts that they write to
    writable_roots: bool = False  #: containers that are added while it runs may write to the directories of their roots
    strict: bool | None = None  #: start only in a full jail; None: as the host's configuration file says

    def __post_init__(self) -> None:
        check_fields(self)
        if self.id:
            check_id("pod", self.id)
        if not _HOSTNAME.fullmatch(self.hostname):
            raise ConfigError(
                f"host name {self.hostname!r} of the pod is not valid; give {_HOSTNAME_MAX} letters, digits, '-' and "
                "'.' at most, a letter or digit first and last",
                field="hostname",
            )
        set_fields(
            self,
            agent_config=_agent_options(self.agent_config),
            sysctls=_checked_sysctls(self.sysctls),
            labels=checked_labels(self.labels),
        )
        for what, listed, names in (
            ("container id", "containers", [container.id for container in self.containers]),
            ("mount tag", "volumes", [volume.mount_tag for volume in self.volumes]),
        ):
            for index, name in enumerate(names):
                if name in names[:index]:
                    raise ConfigError(f"{what} {name!r} is used twice in one pod", field=f"{listed}[{index}]")

    def with_id(self, pod_id: str) -> PodConfig:
        """Return this configuration with another id. Raises ConfigError for an id that is not valid."""
        return replace(self, id=pod_id)


def _checked_sysctls(given: Mapping[str, object]) -> dict[str, str]:
    """Return parameters of the kernel; a value can be given as a number. Raises ConfigError."""
    found = {}
    for name, value in given.items():
        text = str(value) if type(value) is int else value
        if not isinstance(name, str) or not re.fullmatch(_SYSCTL, name):
            raise ConfigError(
                f"parameter {quoted(name)} of the guest's kernel is not a name such as net.ipv4.ip_forward",
                field="sysctls",
            )
        if not isinstance(text, str) or "\0" in text:
            raise ConfigError(
                f"parameter {name!r} of the guest's kernel is {quoted(value)}; give text or a whole number",
                field="sysctls",
            )
        found[name] = text
    return found


def _agent_options(config: Any) -> dict[str, Any]:
    """Return an agent's options, given as a mapping, as an object of the driver's own class, or as None for no options.

    That class is a dataclass whose fields are the options; those that have their default value are left out.
    Raises ConfigError for anything else.
    """
    if config is None:
        return {}
    if isinstance(config, Mapping):
        return dict(config)
    if not is_dataclass(config) or isinstance(config, type):
        raise ConfigError(
            f"agent_config is {quoted(config)}; give a mapping or the driver's configuration object",
            field="agent_config",
        )
    usual = {
        one.name: one.default if one.default_factory is MISSING else one.default_factory() for one in fields(config)
    }
    given = {name: value for name, value in asdict(config).items() if getattr(config, name) != usual[name]}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
