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
from vc_core.config.values import join_parts, parse_mib, quoted, set_fields
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


#: The least limit of processors that a kernel takes: a millisecond of each tenth of a second (cgroups, cpu.max).
_CPUS_MIN = 0.01

#: A number of processors; the kernel counts in thousandths.
Cpus = Annotated[float, msgspec.Meta(ge=0, le=10_000)]

#: Numbers of a device, and of a user or group.
DeviceNumber = Annotated[int, msgspec.Meta(ge=0, le=2**20 - 1)]
UserNumber = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 2)]

#: Bytes of an instruction of a seccomp program (linux/filter.h), and the most instructions (BPF_MAXINSNS).
_INSTRUCTION, _INSTRUCTIONS_MAX = 8, 4096

#: Options of a mount that take something from what is in it (mount(8)).
MountOption = Literal["noexec", "nosuid", "nodev"]

#: The mode of a tmpfs, as mount(8) makes it.
_TMPFS_MODE = 0o1777

#: Files of /proc on which something may be mounted: those that runc allows, for lxcfs (libcontainer, checkProcMount).
_PROC_TARGETS = frozenset(
    {
        *("cpuinfo", "diskstats", "meminfo", "stat", "swaps", "uptime", "loadavg", "slabinfo"),
        *("sys/kernel/ns_last_pid", "sys/crypto/fips_enabled"),
    }
)

#: The parts of a mount's text after its target.
_MOUNT_WORD = r"ro|rw|noexec|nosuid|nodev|(size|mode)=(.*)"

#: The keys of a mount in docker's long form, and what each gives.
_MOUNT_KEYS = {
    "type": "type",
    **dict.fromkeys(("source", "src"), "source"),
    **dict.fromkeys(("target", "destination", "dst"), "target"),
    **dict.fromkeys(("readonly", "ro"), "readonly"),
    "rw": "rw",
    "size": "size",
}
_LONG_MOUNT = rf'"?({"|".join(_MOUNT_KEYS)})\s*(=|,|$)'


@frozen
class Mount:
    """A file or directory of the host, ``source``, mounted in a container on the absolute path ``target``.

    Unless ``read_only``, the container can write to it. Owners and modes that it sets are stored in extended attributes
    of the host's files, so that it cannot leave a set-user-id program or a device on the host. ``size`` limits what a
    writable directory may hold, in MiB, by project quota of its file system, which needs root; 0: no limit.

    With ``type="tmpfs"`` it is an empty directory in the VM's memory instead, without a source, which the container can
    write to. It is lost with the container, and counts as memory of the container that fills it.

    As with runc, a target in /proc can only be one of the files that lxcfs provides, such as /proc/meminfo.
    """

    source: HostPath = ""  #: file or directory of the host; none for a tmpfs
    target: str = ""  #: absolute path in the container
    read_only: bool = True  #: the container cannot write to it; has no effect on a tmpfs
    size: Count = 0  #: MiB that a writable directory may hold; 0: no limit; for a tmpfs half of the VM's memory, or a
    #: quarter of the container's
    type: Literal["bind", "tmpfs"] = "bind"  #: what is mounted: the source, or a new directory in memory
    mode: Annotated[int, msgspec.Meta(ge=0, le=0o7777)] = _TMPFS_MODE  #: of a tmpfs
    options: Sequence[MountOption] = ()  #: noexec, nosuid; no device opens in any mount, so nodev is always so

    def __post_init__(self) -> None:
        check_fields(self)
        what = f"mount on {self.target!r}"
        if self.type == "tmpfs":
            set_fields(self, read_only=False)
            if self.source:
                raise ConfigError(f"{what} is a tmpfs and has the source {self.source!r}; choose one", field="source")
        elif not self.source:
            raise ConfigError(f"{what} has no source; name a file or directory of the host", field="source")
        if self.size and self.read_only:
            raise ConfigError(f"{what} has a size, but is read-only; make it writable or leave it out", field="size")
        if not is_path_in_container(self.target):
            raise ConfigError(
                f"mount target {self.target!r} is not an absolute path below / in the container", field="target"
            )
        parts = [part for part in self.target.split("/") if part not in ("", ".")]
        if parts[0] == "proc" and "/".join(parts[1:]) not in _PROC_TARGETS:
            raise ConfigError(
                f"mount target {self.target!r} is in /proc, where programs read files of the kernel; choose another "
                "place",
                field="target",
            )

    @property
    def quota(self) -> int:
        """MiB that the source may hold, by a quota of the host's file system; 0: no limit."""
        return self.size if self.type == "bind" else 0

    @classmethod
    def parse(cls, text: str) -> Mount:
        """Return the mount given as ``SOURCE:TARGET[:rw][:size=MIB][:noexec][:nosuid]``, for a tmpfs without SOURCE.

        A tmpfs, ``:TARGET``, can also have ``:mode=OCTAL``. docker's long form is for paths with a colon:
        ``type=bind,source=PATH,target=PATH[,rw][,size=MIB]``; a part with a comma is quoted as in CSV. A size can also
        be such as 64m or 1g.
        Raises ConfigError.
        """
        if re.match(_LONG_MOUNT, text):
            return cls._parse_long(text)
        parts, words = text.split(":"), []
        while len(parts) > 1 and (match := re.fullmatch(_MOUNT_WORD, parts[-1])):
            words.append(match)
            parts.pop()
        if len(parts) != 2 or not parts[1]:
            raise ConfigError(f"mount {text!r} is not of the form SOURCE:TARGET[:rw]")
        numbers = {"size": 0, "mode": _TMPFS_MODE}
        for match in words:
            if match[1] == "mode":
                if not re.fullmatch("[0-7]{1,4}", match[2], re.ASCII):
                    raise ConfigError(f"mount {text!r} has the mode {match[2]!r}; give an octal number")
                numbers["mode"] = int(match[2], 8)
            elif match[1]:
                numbers["size"] = _size(text, match[2])
        plain: list[Any] = [match[0] for match in reversed(words) if not match[1]]
        source, target = parts
        return cls(
            source,
            target,
            read_only="rw" not in plain,
            type="bind" if source else "tmpfs",
            size=numbers["size"],
            mode=numbers["mode"],
            options=[word for word in plain if word not in ("ro", "rw")],
        )

    @classmethod
    def _parse_long(cls, text: str) -> Mount:
        import csv  # here, because the short form is usual

        given: dict[str, str] = {}
        try:
            parts = next(csv.reader([text], strict=True), [])
        except csv.Error as error:
            raise ConfigError(
                f"mount {quoted(text)} cannot be split into its parts; quote a part with a comma or a line break as in "
                "CSV, and double each quote in it"
            ) from error
        for part in parts:
            key, _, value = part.partition("=")
            name = _MOUNT_KEYS.get(key.strip())
            if name is None:
                names = ", ".join(_MOUNT_KEYS)
                raise ConfigError(f"mount {text!r} has {key.strip()!r}, which is none of {names}")
            if name in given:
                raise ConfigError(f"mount {text!r} has its {name} twice")
            given[name] = value
        kind, size = given.get("type", "bind"), _size(text, given.get("size", "0"))
        if kind != "bind":
            raise ConfigError(f"mount {text!r} is of type {kind!r}; the only one is bind")
        flags = {name: given[name] for name in ("readonly", "rw") if name in given}
        if len(flags) > 1 or not {"", "true", "false"}.issuperset(flags.values()):
            raise ConfigError(
                f"mount {text!r} is not clear; give readonly or rw, without a value or with true or false"
            )
        read_only = flags.get("rw") == "false" if "rw" in flags else flags.get("readonly") != "false"
        return cls(given.get("source", ""), given.get("target", ""), read_only, size)

    def __str__(self) -> str:
        text = join_parts(self.source, self.target, read_only=self.read_only or self.type == "tmpfs")
        text += f":size={self.size}" if self.size else ""
        text += "" if self.mode == _TMPFS_MODE else f":mode={self.mode:o}"
        return ":".join((text, *self.options))


def _size(mount: str, text: str) -> int:
    size = parse_mib(text)
    if size is None:
        raise ConfigError(
            f"mount {mount!r} has the size {text!r}; give a whole number of MiB, or one such as 64m or 1g"
        )
    return size


def is_path_in_container(path: str) -> bool:
    """Return whether a path is absolute, not / itself, and does not lead upwards."""
    return path.startswith("/") and ".." not in path.split("/") and bool(path.strip("/"))


@frozen(kw_only=True)
class DeviceNode:
    """A device of the guest's kernel, or a named pipe, that a container has in its /dev besides the usual ones.

    What a container does with it concerns its whole pod. The kernel must have a driver for it.
    """

    path: str  #: below /dev
    type: Literal["c", "b", "p"] = "c"  #: character device, block device, or pipe
    major: DeviceNumber = 0  #: number of the driver
    minor: DeviceNumber = 0  #: number of the device
    mode: Annotated[int, msgspec.Meta(ge=0, le=0o7777)] = 0o666  #: who may open it
    uid: UserNumber = 0  #: its owner
    gid: UserNumber = 0  #: its group

    def __post_init__(self) -> None:
        check_fields(self)
        if not (self.path.startswith("/dev/") and is_path_in_container(self.path.removeprefix("/dev"))):
            raise ConfigError(f"device {self.path!r} is not below /dev; give a path such as /dev/fuse", field="path")

    @classmethod
    def parse(cls, text: str) -> DeviceNode:
        """Return the device given as ``PATH=TYPE:MAJOR:MINOR[:MODE]``, the mode octal. Raises ConfigError."""
        path, _, rest = text.partition("=")
        kind, *numbers = rest.split(":")
        try:
            major, minor, mode = int(numbers[0]), int(numbers[1]), int("".join(numbers[2:]) or "666", 8)
        except (IndexError, ValueError):
            kind = ""
        if kind not in ("c", "b") or len(numbers) > 3:
            raise ConfigError(
                f"device {text!r} is not of the form PATH=TYPE:MAJOR:MINOR[:MODE], such as /dev/fuse=c:10:229"
            )
        return cls(path=path, type="c" if kind == "c" else "b", major=major, minor=minor, mode=mode)


@frozen(kw_only=True)
class ContainerConfig:
    """One container of a pod.

    ``root_fs`` is a directory on the host, which is the container's root or a bundle with a directory ``rootfs/``; or
    a disk: an image file or block device with ext4, squashfs, erofs or xfs on it. It is attached read-only: the
    container's writes go to an overlay in the guest and are lost with the guest. With ``writable_root_fs`` they go to
    the disk or the directory itself, which nothing else should write to meanwhile. Such a directory is the root itself
    and no bundle, and lies below one that no other user of the host can enter, because the guest chooses owners and
    modes in it.

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
    writable_root_fs: bool = False  #: its writes go to the disk or directory that is its root
    overlay_size: Count = 0  #: MiB of its overlay, in the VM's memory; 0: half of that memory, or of ``memory``
    memory: Count = 0  #: MiB for all of its processes; 0: limited by the VM only
    cpus: Cpus = 0.0  #: processors that its processes use together at most, such as 0.5; 0: limited by the VM only
    pids: Count = 0  #: most processes and threads; 0: limited by the VM only
    rlimits: Sequence[RLimit] = ()  #: resource limits of each of its processes
    capabilities: Sequence[str] = DEFAULT_CAPABILITIES  #: capabilities(7) of its root user; "ALL" for all
    no_new_privs: bool = True  #: set-user-id programs grant no rights
    isolate: bool = False  #: other containers of the pod can neither see nor reach its processes
    seccomp: bytes = b""  #: BPF program that filters the system calls of all its processes; empty: none
    devices: Sequence[DeviceNode] = ()  #: what it has in /dev besides the usual devices
    masked_paths: Sequence[str] = ()  #: its paths that seem empty, besides those of /proc and /sys that always are
    read_only_paths: Sequence[str] = ()  #: its paths that it cannot write to, besides some of /proc
    pid_namespace: Literal["pod", "own"] = "pod"  #: "own": it sees its own processes only, and its first one is pid 1

    def __post_init__(self) -> None:
        check_id("container", self.id)
        given: object = self.cmd
        if isinstance(given, (list, tuple)):
            set_fields(self, cmd=Cmd(given))
        check_fields(self)
        set_fields(self, capabilities=full_capabilities(self.capabilities))
        if 0 < self.cpus < _CPUS_MIN:
            raise ConfigError(f"cpus is {self.cpus!r}; give {_CPUS_MIN} or more, or 0 for no limit", field="cpus")
        if self.read_only and self.writable_root_fs:
            raise ConfigError(f"container {self.id!r} is both read_only and has a writable_root_fs; choose one")
        for name in ("masked_paths", "read_only_paths"):
            if wrong := [path for path in getattr(self, name) if not is_path_in_container(path)]:
                raise ConfigError(
                    f"{name} of container {self.id!r} has {wrong[0]!r}; give absolute paths in the container",
                    field=name,
                )
        if len(self.seccomp) % _INSTRUCTION or len(self.seccomp) > _INSTRUCTION * _INSTRUCTIONS_MAX:
            raise ConfigError(
                f"seccomp of container {self.id!r} has {len(self.seccomp)} bytes; give a BPF program of at most "
                f"{_INSTRUCTIONS_MAX} instructions of {_INSTRUCTION} bytes, as libseccomp writes it",
                field="seccomp",
            )
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
            raise ConfigError(
                f"{what} has an image, which all containers of it share, and writable_root_fs; leave one out"
            )
        from vc_core.config.image import ImageReference  # containers without an image start sooner

        set_fields(self, image=str(ImageReference.parse(self.image)))
