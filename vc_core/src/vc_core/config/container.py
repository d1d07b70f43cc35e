"""Configuration of a container, its command and its mounts: frozen, validated when made."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from vc_core.config.ids import check_id
from vc_core.config.limits import DEFAULT_CAPABILITIES, RLimit, full_capabilities
from vc_core.config.values import check_count, check_texts, join_parts, path_text, set_fields, split_parts
from vc_core.errors import ConfigError

#: Bytes of arguments and environment of one command, together: one message to the supervisor carries them.
COMMAND_BYTES_MAX = 128 * 1024

_ENV_NAME = re.compile(r"[^=\0]+")


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
        check_texts("environment variable", (self.var, self.value))
        if not _ENV_NAME.fullmatch(self.var):
            raise ConfigError(f"environment variable name {self.var!r} is not valid: it is empty or contains '='")


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
        set_fields(
            self,
            args=check_texts("a command's args", self.args),
            envs=tuple(self.envs),
            additional_groups=check_texts("a command's additional_groups", self.additional_groups),
        )
        check_texts("a command's work_dir, user or group", (self.work_dir, self.user, self.group))
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
        set_fields(self, source=path_text(self.source))
        check_texts("mount", (self.source, self.target))
        if not self.source:
            raise ConfigError(f"mount on {self.target!r} has no source; name a file or directory of the host")
        if not self.target.startswith("/") or ".." in self.target.split("/") or not self.target.strip("/"):
            raise ConfigError(f"mount target {self.target!r} is not an absolute path below / in the container")

    @classmethod
    def parse(cls, text: str) -> Mount:
        """Return the mount that ``SOURCE:TARGET``, or ``SOURCE:TARGET:rw``, says. Raises ConfigError."""
        (source, target), read_only = split_parts("mount", text, "SOURCE:TARGET", access=True)
        return cls(source, target, read_only)

    def __str__(self) -> str:
        return join_parts(self.source, self.target, read_only=self.read_only)


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
            check_count(name, getattr(self, name))
        if self.read_only and self.writable_root_fs:
            raise ConfigError(f"container {self.id!r} is both read_only and has a writable_root_fs; choose one")
        set_fields(
            self,
            rlimits=tuple(self.rlimits),
            capabilities=full_capabilities(check_texts("capabilities", self.capabilities)),
        )
        set_fields(
            self,
            root_fs=path_text(self.root_fs),
            console=path_text(self.console),
            mounts=tuple(self.mounts),
        )
        if self.console and not self.interactive:
            raise ConfigError(f"container {self.id!r} has the console {self.console!r} but is not interactive")
