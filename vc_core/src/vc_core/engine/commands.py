"""Completes commands: what nobody chose has a default."""

from __future__ import annotations

from dataclasses import replace

from vc_core.config.container import Cmd, EnvVar
from vc_core.config.defaults import DEFAULT_PATH


def completed(cmd: Cmd) -> Cmd:
    """Return a command that has a PATH and a directory, whatever the agent's own defaults would be."""
    envs = cmd.envs if any(env.var == "PATH" for env in cmd.envs) else (EnvVar("PATH", DEFAULT_PATH), *cmd.envs)
    return replace(cmd, envs=envs, work_dir=cmd.work_dir or "/")
