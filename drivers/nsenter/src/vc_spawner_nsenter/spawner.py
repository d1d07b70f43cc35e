"""Wraps commands with nsenter(1)."""

from __future__ import annotations

from collections.abc import Sequence

from vc_core.driver import Spawner, SpawnTarget
from vc_core.errors import ConfigError
from vc_spawner_nsenter.config import TARGET, NsenterConfig

#: The namespaces that are always entered, in v0.1.0's order.
_NAMESPACES = ("--mount", "--uts", "--ipc", "--net", "--pid")


class NsenterSpawner(Spawner):
    """Wraps a command so that it runs in the namespaces of a container's first process."""

    def __init__(self, config: NsenterConfig) -> None:
        self._program = config.program
        self._options = [
            *_NAMESPACES,
            *(["--user"] if config.user_namespace else []),
            *(["--cgroup"] if config.cgroup else []),
            *_place("--root", config.root),
            *_place("--wd", config.work_dir),
            *([] if config.user is None else [f"--setuid={config.user}"]),
            *([] if config.group is None else [f"--setgid={config.group}"]),
        ]

    def wrap(self, argv: Sequence[str], target: SpawnTarget) -> list[str]:
        """Return the command that runs ``argv`` in the target's namespaces. Raises ConfigError for a pid below 2."""
        pid = target.pid
        if not isinstance(pid, int) or isinstance(pid, bool) or pid <= 1:
            # 1 is the guest's own first process, which is in no container's namespaces.
            raise ConfigError(f"the process of container {target.container_id!r} is {pid!r}; it must be above 1")
        return [self._program, "--target", str(pid), *self._options, "--", *argv]


def _place(option: str, value: str) -> list[str]:
    if not value:
        return []
    return [option if value == TARGET else f"{option}={value}"]
