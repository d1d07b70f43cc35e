"""ContainerConfig: the configuration of a container, its command and its mounts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import field
from typing import Annotated, Any, Literal

import msgspec

from vc_core.config.fields import Accepts, Count, HostPath, check_fields
from vc_core.config.ids import check_id
from vc_core.config.limits import DEFAULT_CAPABILITIES, CapabilitySets, RLimit, full_capabilities
from vc_core.config.signals import number
from vc_core.config.values import join_parts, set_fields, split_parts
from vc_core.errors import ConfigError
from vc_core.frozen import frozen

#: Bytes of the arguments and environment of one command together, at most: one message carries them to the supervisor.
COMMAND_BYTES_MAX = 128 * 1024

_ENV_NAME = re.compile(r"[^=\0]+")


@frozen
class EnvVar:
    """One variable of a command's environment."""

    var: str  #: its name
    value: str  #: its value

    @classmethod
    def parse(cls, text: str) -> EnvVar:
        """Return the variable given as ``NAME=VALUE``. Raises ConfigError."""
        var, separator, value = text.partition("=")
        if not separator:
            raise ConfigError(f"environment variable {text!r} is not of the form NAME=VALUE")
        return cls(var, value)

    def __str__(self) -> str:
        return f"{self.var}={self.value}"

    def __post_init__(self) -> None:
        check_fields(self)
        if not _ENV_NAME.fullmatch(self.var):
            raise ConfigError(
                f"environment variable name {self.var!r} is empty or contains '='; give NAME=VALUE", field="var"
            )


@frozen(kw_only=True)
class Cmd:
    """A command to run in a container: ``args[0]`` is looked up in PATH of ``envs``. ``Cmd(["ls", "-l"])`` is one.

    A further command in a container has the container's own variables besides its own, and where it leaves them empty
    the container's own directory, user, group and additional groups. The last fields take the place of what the
    container says of all of its processes.
    """

    args: Sequence[str] = field(default=(), kw_only=False)  #: program and arguments
    envs: Sequence[EnvVar] = ()  #: its environment; a default PATH is added if it has none
    work_dir: str = ""  #: its working directory; empty: /, or that of the image
    user: str = ""  #: name or number in the container; empty: root, or that of the image
    group: str = ""  #: name or number; empty: the user's own
    additional_groups: Sequence[str] = ()  #: names or numbers, besides those that list the user
    exact_groups: bool = False  #: the additional groups are all; those that list the user are not added
    umask: Annotated[int, msgspec.Meta(ge=0, le=0o777)] | None = None  #: what files it makes lack; None: 0o022
    capabilities: CapabilitySets | None = None  #: all five sets; None: those of the container
    rlimits: Sequence[RLimit] | None = None  #: its resource limits; None: those of the container
    no_new_privs: bool | None = None  #: set-user-id programs grant no rights; None: as the container says
    oom_score_adj: Annotated[int, msgspec.Meta(ge=-1000, le=1000)] | None = None  #: 1000: killed first; None: 0

    def __post_init__(self) -> None:
        check_fields(self)
        size = sum(len(text.encode()) + 1 for text in self.args)
        size += sum(len(env.var.encode()) + len(env.value.encode()) + 2 for env in self.envs)
        if size > COMMAND_BYTES_MAX:
            raise ConfigError(
                f"the command's arguments and environment have {size} bytes; {COMMAND_BYTES_MAX} at most: "
                "pass large data on stdin",
                field="args",
            )


#: The default of a field of type ``Accepts``, which a type checker takes for another type.
_CMD: Any = Cmd


@frozen
class Mount:
    """A file or directory of the host, ``source``, mounted in a container on the absolute path ``target``.

    Unless ``read_only``, the container can write to it. Owners and modes that it sets are stored in extended attributes
    of the host's files, so that it cannot leave a set-user-id program or a device on the host. ``size`` limits what a
    writable directory may hold, in MiB, by project quota of its file system, which needs root; 0: no limit.
    """

    source: HostPath  #: file or directory of the host
    target: str  #: absolute path in the container
    read_only: bool = True  #: the container cannot write to it
    size: Count = 0  #: MiB that a writable directory may hold; 0: no limit

    def __post_init__(self) -> None:
        check_fields(self)
        if self.size and self.read_only:
            raise ConfigError(
                f"mount on {self.target!r} has a size, but is read-only; make it writable or leave it out", field="size"
            )
        if not self.source:
            raise ConfigError(
                f"mount on {self.target!r} has no source; name a file or directory of the host", field="source"
            )
        if not self.target.startswith("/") or ".." in self.target.split("/") or not self.target.strip("/"):
            raise ConfigError(
                f"mount target {self.target!r} is not an absolute path below / in the container", field="target"
            )

    @classmethod
    def parse(cls, text: str) -> Mount:
        """Return the mount given as ``SOURCE:TARGET[:rw[:size=MIB]]``. Raises ConfigError."""
        rest, separator, size = text.rpartition(":size=")
        if separator and not (size.isascii() and size.isdecimal()):
            raise ConfigError(f"mount {text!r} has the size {size!r}; give MiB, a whole number")
        (source, target), read_only = split_parts("mount", rest if separator else text, "SOURCE:TARGET", access=True)
        return cls(source, target, read_only, int(size) if separator else 0)

    def __str__(self) -> str:
        text = join_parts(self.source, self.target, read_only=self.read_only)
        return f"{text}:size={self.size}" if self.size else text


@frozen(kw_only=True)
class ContainerConfig:
    """One container of a pod.

    ``root_fs`` is a directory on the host, which is the container's root or a bundle with a directory ``rootfs/``; or
    a disk: an image file or block device with ext4, squashfs, erofs or xfs on it. It is attached read-only: the
    container's writes go to an overlay in the guest and are lost with the guest. With ``writable_root_fs`` they go to
    the disk, which must not be used elsewhere meanwhile. A directory is never writable, because a guest could leave
    set-user-id programs in it.

    The container ends with ``cmd``. ``cmd=["ls", "-l"]`` is the same as ``cmd=Cmd(["ls", "-l"])``.

    ``image`` takes the place of ``root_fs``: the name of a container image, as docker takes it, or the digest of one
    that is on this host. If it is not there, it is pulled when the container is created. What the image says of the
    command, environment, user, working directory and stop signal counts where ``cmd`` and ``stop_signal`` say nothing:
    ``cmd.args`` follow the image's entry point, or ``entrypoint`` if that is given.

    With ``interactive`` and ``console``, the path of a terminal (a pty) of the caller, the container's command runs on
    that terminal. With ``interactive`` alone, its input stays open and is connected to the client that starts it in the
    foreground.
    """

    id: str  #: unique in its pod
    root_fs: HostPath = ""  #: its root file system
    image: str = ""  #: the image that it is made of, instead
    entrypoint: Sequence[str] | None = None  #: goes before ``cmd.args``; None: that of the image
    cmd: Accepts[Cmd, Cmd | Sequence[str]] = field(default_factory=_CMD)  #: its main process, or its arguments alone
    stop_signal: str = ""  #: what asks it to end, such as SIGINT; empty: that of the image, or SIGTERM
    interactive: bool = False  #: its input stays open
    console: HostPath = ""  #: path of the terminal that it runs on
    mounts: Sequence[Mount] = ()  #: files and directories of the host in it
    read_only: bool = False  #: it cannot write to its root file system
    writable_root_fs: bool = False  #: its writes go to the disk that is its root
    overlay_size: Count = 0  #: MiB of its overlay, in the VM's memory; 0: half of that memory
    memory: Count = 0  #: MiB for all of its processes; 0: limited by the VM only
    pids: Count = 0  #: most processes and threads; 0: limited by the VM only
    rlimits: Sequence[RLimit] = ()  #: resource limits of each of its processes
    capabilities: Sequence[str] = DEFAULT_CAPABILITIES  #: capabilities(7) of its root user; "ALL" for all
    no_new_privs: bool = True  #: set-user-id programs grant no rights
    isolate: bool = False  #: other containers of the pod can neither see nor reach its processes
    pid_namespace: Literal["pod", "own"] = "pod"  #: "own": it sees its own processes only, and its first one is pid 1

    def __post_init__(self) -> None:
        check_id("container", self.id)
        given: object = self.cmd
        if isinstance(given, (list, tuple)):
            set_fields(self, cmd=Cmd(given))
        check_fields(self)
        set_fields(self, capabilities=full_capabilities(self.capabilities))
        if self.read_only and self.writable_root_fs:
            raise ConfigError(f"container {self.id!r} is both read_only and has a writable_root_fs; choose one")
        self._check_image()
        if self.console and not self.interactive:
            raise ConfigError(
                f"container {self.id!r} has console {self.console!r}, which needs interactive; set both",
                field="console",
            )

    def _check_image(self) -> None:
        """Refuse what contradicts the image, or the lack of one. Raises ConfigError."""
        what = f"container {self.id!r}"
        if self.stop_signal:
            number(self.stop_signal)
        if self.entrypoint is not None and not self.image:
            raise ConfigError(f"{what} has an entrypoint, but no image; put it at the beginning of cmd.args")
        if not self.image:
            return
        if self.root_fs:
            raise ConfigError(f"{what} has the image {self.image!r} and the rootfs {self.root_fs!r}; choose one")
        if self.writable_root_fs:
            raise ConfigError(f"{what} has an image and writable_root_fs, which is for disks only; leave one out")
        from vc_core.config.image import ImageReference  # containers without an image start sooner

        set_fields(self, image=str(ImageReference.parse(self.image)))
