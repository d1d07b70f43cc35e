"""The plug-in class of the driver ``noop``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vc_agent_noop.agent import NoopAgent
from vc_core.driver import PodContext, Spawner, hookimpl, read_options


@dataclass(frozen=True, slots=True)
class NoopConfig:
    """The driver has no options."""


class NoopPlugin:
    """Implements the hooks of an agent driver; without ``vc_agent_guest``, because it needs no guest."""

    @hookimpl
    def vc_agent_config(self, options: Mapping[str, object]) -> NoopConfig:
        """Return the configuration. Raises ConfigError for any option."""
        return read_options(NoopConfig, options, "agent noop")

    @hookimpl
    def vc_agent_create(
        self, pod: PodContext, config: object, spawner: Spawner | None, saved: Mapping[str, object] | None
    ) -> NoopAgent:
        """Return the agent of one pod. It runs no commands, so it uses no spawner."""
        return NoopAgent(saved)
