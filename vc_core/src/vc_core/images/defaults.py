"""Applies what an image configures to a container, by docker's rules: what the caller gives wins."""

from __future__ import annotations

from dataclasses import replace

from vc_core.config.container import Cmd, ContainerConfig, EnvVar
from vc_core.config.image import ImageReference
from vc_core.errors import ImageError
from vc_core.results import ImageStatus


def apply_image(container: ContainerConfig, image: ImageStatus) -> ContainerConfig:
    """Return the configuration of a container with all that its image configures, pinned to the image's digest.

    A second call changes nothing. Called before a container is stored, so that neither its command nor its root
    changes with the image's name. Raises ConfigError, ImageError for an image that names no command and is given none.
    """
    cmd = container.cmd
    if container.entrypoint is None:
        args = (*image.entrypoint, *(cmd.args or image.cmd))
    else:
        args = (*container.entrypoint, *cmd.args)
    if not args:
        raise ImageError(f"image {container.image!r} has no command of its own; give container {container.id!r} one")
    user, _, group = image.user.partition(":")
    inherited = Cmd(envs=list(map(EnvVar.parse, image.env)), work_dir=image.work_dir or "/", user=user, group=group)
    return replace(
        container,
        image=str(ImageReference.parse(container.image).pinned(image.digest)),
        entrypoint=(),
        stop_signal=container.stop_signal or image.stop_signal,
        cmd=replace(inherit(cmd, inherited), args=args),
    )


def inherit(cmd: Cmd, inherited: Cmd) -> Cmd:
    """Return a command with the environment, working directory and user of another where it has none of its own.

    Called for the first command of a container with what its image says, and for a command that enters the container
    with that first one, as docker does. Raises ConfigError for an environment that is too large.
    """
    merged = {one.var: one for one in (*inherited.envs, *cmd.envs)}
    return replace(
        cmd,
        envs=list(merged.values()),
        work_dir=cmd.work_dir or inherited.work_dir,
        user=cmd.user or inherited.user,
        group=cmd.group or ("" if cmd.user else inherited.group),
        additional_groups=cmd.additional_groups or (() if cmd.user else inherited.additional_groups),
        exact_groups=cmd.exact_groups or (not (cmd.user or cmd.additional_groups) and inherited.exact_groups),
        umask=inherited.umask if cmd.umask is None else cmd.umask,
        capabilities=inherited.capabilities if cmd.capabilities is None else cmd.capabilities,
        rlimits=inherited.rlimits if cmd.rlimits is None else cmd.rlimits,
        no_new_privs=inherited.no_new_privs if cmd.no_new_privs is None else cmd.no_new_privs,
        oom_score_adj=inherited.oom_score_adj if cmd.oom_score_adj is None else cmd.oom_score_adj,
    )
