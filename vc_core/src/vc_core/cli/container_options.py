"""The options that describe a container: those of ``pod create`` and ``run``, and of ``container create``."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

import vc_core
from vc_core.cli import completes, environment, options, output
from vc_core.config.values import quoted
from vc_core.errors import ConfigError
from vc_core.frozen import frozen

if TYPE_CHECKING:
    from vc_core.config.container import Cmd, ContainerConfig, EnvVar

_COUNT = click.IntRange(min=0)

#: Bytes: more than a program of seccomp can have.
_PROGRAM_MAX = 1 << 16


def _mask(context: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    if text is not None and not re.fullmatch("0?[0-7]{1,3}", text):
        raise click.BadParameter(f"{quoted(text)} is not an octal number up to 777.")
    return None if text is None else int(text, 8)


def _command(
    text: str | None,
    argv: tuple[str, ...],
    envs: Sequence[EnvVar] = (),
    user: str = "",
    workdir: str = "",
    image: str = "",
) -> Cmd:
    """Return the command of a container, given as :func:`options.words` takes it; the default is that of v0.1.0.

    An ``image`` may bring a command of its own. ``user``: ``USER[:GROUP]``. Raises click.UsageError, ConfigError.
    """
    name, _, group = user.partition(":")
    given = text is not None or bool(argv)
    args = options.words(text if given else options.DEFAULT_COMMAND, argv) if given or not image else []
    return vc_core.Cmd(args=args, envs=envs, user=name, group=group, work_dir=workdir)


_mount_option = output.group_of_options("Container")(
    "--mount",
    "mounts",
    multiple=True,
    metavar="SOURCE:TARGET[:rw[:size=MIB]]",
    help="Show a host path in the container, which may write as much there; or type=bind,source=PATH,target=PATH[,rw]; "
    "repeatable.",
)
_tmpfs_option = output.group_of_options("Container")(
    "--tmpfs",
    multiple=True,
    metavar="TARGET[:size=MIB]",
    help="Mount an empty directory in the VM's memory; repeatable.",
)

_container = output.group_of_options("Container")
_limits = output.group_of_options("Limits and rights of the container")

_CONTAINER_OPTIONS = (
    _container(
        "--entrypoint", metavar="CMD", help="Goes before the command instead of the image's, split as a shell does."
    ),
    _container(
        "--stop-signal",
        default="",
        metavar="SIGNAL",
        shell_complete=completes.signals,
        help="What asks it to end.  [default: the image's]",
    ),
    environment.env_option,
    environment.env_file_option,
    _container(
        "-u",
        "--user",
        default="",
        metavar="USER[:GROUP]",
        help="Who runs its command.  [default: that of the image, or root]",
    ),
    _container(
        "-w",
        "--workdir",
        default="",
        metavar="DIR",
        help="Directory of its command.  [default: that of the image, or /]",
    ),
    _limits("--group-add", "groups", multiple=True, metavar="GROUP", help="Further group of it; repeatable."),
    _limits("--umask", callback=_mask, metavar="OCTAL", help="What the files that it makes lack.  [default: 022]"),
    _limits(
        "--oom-score-adj", type=click.IntRange(-1000, 1000), metavar="N", help="With 1000 the kernel kills it first."
    ),
    _mount_option,
    _tmpfs_option,
    _limits("--read-only", is_flag=True, help="The container cannot write to its root file system."),
    _limits("--writable-rootfs", is_flag=True, help="It writes to the disk or directory that is its root."),
    _limits("--overlay-size", type=options.size, default=0, metavar="MIB", help="What it may write there otherwise."),
    _limits("--memory-limit", type=options.size, default=0, metavar="MIB", help="Memory that it may use; 0: no limit."),
    _limits(
        "--cpus-limit",
        type=click.FloatRange(min=0),
        default=0.0,
        metavar="N",
        help="Processors that it may use, such as 0.5; 0: no limit.",
    ),
    _limits("--pids-limit", type=_COUNT, default=0, metavar="N", help="Processes that it may have; 0: no limit."),
    _limits(
        "--ulimit", "ulimits", multiple=True, metavar="NAME=SOFT[:HARD]", help="Limit of its processes; repeatable."
    ),
    _limits("--cap-add", multiple=True, metavar="NAME", help="Give it this capability; ALL for all; repeatable."),
    _limits("--cap-drop", multiple=True, metavar="NAME", help="Take this capability; ALL for all; repeatable."),
    _limits(
        "--device",
        "devices",
        multiple=True,
        metavar="PATH=TYPE:MAJOR:MINOR[:MODE]",
        help="A device of the guest in its /dev, such as /dev/fuse=c:10:229; repeatable.",
    ),
    _limits(
        "--seccomp",
        type=click.Path(exists=True, dir_okay=False),
        metavar="FILE",
        help="Filter its system calls by the BPF program in a file, as libseccomp writes it.",
    ),
    _limits("--mask", "masked", multiple=True, metavar="PATH", help="What it finds empty; repeatable."),
    _limits("--protect", "protected", multiple=True, metavar="PATH", help="What it cannot write to; repeatable."),
    _limits("--isolate", is_flag=True, help="Other containers of the pod cannot reach its processes."),
    _limits(
        "--pid-namespace",
        type=click.Choice(["pod", "own"]),
        default="pod",
        show_default=True,
        help="With own it sees its own processes only, and its command is pid 1.",
    ),
    _limits("--new-privileges", is_flag=True, help="Let set-user-id programs give rights, as sudo needs."),
)


@frozen(kw_only=True)
class ContainerOptions:
    """The values of the options that describe a container, by the names of their parameters."""

    bundle: str
    entrypoint: str | None
    stop_signal: str
    argv: tuple[str, ...]
    envs: tuple[str, ...]
    env_files: tuple[str, ...]
    user: str
    workdir: str
    groups: tuple[str, ...]
    umask: int | None
    oom_score_adj: int | None
    mounts: tuple[str, ...]
    tmpfs: tuple[str, ...]
    read_only: bool
    writable_rootfs: bool
    overlay_size: int
    memory_limit: int
    cpus_limit: float
    pids_limit: int
    ulimits: tuple[str, ...]
    cap_add: tuple[str, ...]
    cap_drop: tuple[str, ...]
    devices: tuple[str, ...]
    seccomp: str | None
    masked: tuple[str, ...]
    protected: tuple[str, ...]
    isolate: bool
    pid_namespace: Literal["pod", "own"]
    new_privileges: bool

    def config(self, container_id: str, text: str | None, image: str, **more: Any) -> ContainerConfig:
        """Return the configuration of a container.

        ``text``: its command as one string, or None; ``image``: its image, or ""; ``more``: further fields. Raises
        ConfigError, click.UsageError.
        """
        return vc_core.ContainerConfig(
            id=container_id,
            root_fs=self.bundle,
            image=image,
            entrypoint=None if self.entrypoint is None else options.split("entry point", self.entrypoint),
            stop_signal=self.stop_signal,
            cmd=replace(
                _command(
                    text, self.argv, environment.variables(self.env_files, self.envs), self.user, self.workdir, image
                ),
                additional_groups=self.groups,
                umask=self.umask,
                oom_score_adj=self.oom_score_adj,
            ),
            mounts=[
                *options.parsed("--tmpfs", lambda word: vc_core.Mount.parse(f":{word}"), self.tmpfs),
                *options.parsed("--mount", vc_core.Mount.parse, self.mounts, several=False),
            ],
            read_only=self.read_only,
            writable_root_fs=self.writable_rootfs,
            overlay_size=self.overlay_size,
            memory=self.memory_limit,
            cpus=self.cpus_limit,
            pids=self.pids_limit,
            rlimits=options.parsed("--ulimit", vc_core.RLimit.parse, self.ulimits),
            capabilities=_capabilities(self.cap_add, self.cap_drop),
            no_new_privs=not self.new_privileges,
            devices=options.parsed("--device", vc_core.DeviceNode.parse, self.devices, several=False),
            seccomp=b"" if self.seccomp is None else _program(self.seccomp),
            masked_paths=self.masked,
            read_only_paths=self.protected,
            isolate=self.isolate,
            pid_namespace=self.pid_namespace,
            **more,
        )


def describes_container(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that describe a container; the command gets ``container``, :meth:`ContainerOptions.config`."""

    @functools.wraps(function)
    def build(**given: Any) -> Any:
        return function(container=options.take(ContainerOptions, given).config, **given)

    return output.add_options(build, _CONTAINER_OPTIONS)


def _program(path: str) -> bytes:
    """Return the content of a file of a seccomp program. Raises click.UsageError."""
    from vc_core.driver import read_regular

    try:
        return read_regular(Path(path), _PROGRAM_MAX, follow=True)
    except OSError as error:
        raise click.UsageError(f"--seccomp {quoted(path)} cannot be read: {error.strerror}") from error


def _capabilities(added: tuple[str, ...], dropped: tuple[str, ...]) -> list[str]:
    """Return the usual capabilities without those that are dropped, and with those that are added."""
    from vc_core.config.limits import DEFAULT_CAPABILITIES, full_capabilities

    try:
        more, less = full_capabilities(added), full_capabilities(dropped)
    except ConfigError as error:
        raise click.UsageError(f"--cap-add or --cap-drop: {error}") from error
    if any(name.upper() in ("ALL", "CAP_ALL") for name in added):
        return [name for name in more if name not in less]
    return [*(name for name in DEFAULT_CAPABILITIES if name not in less), *more]
