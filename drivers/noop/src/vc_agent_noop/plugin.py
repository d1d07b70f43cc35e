"""The plug-in class of the driver ``noop``."""

from __future__ import annotations

from collections.abc import Mapping

from vc_agent_noop.agent import NoopAgent
from vc_core.driver import hookimpl


class NoopPlugin:
    """Implements the hook of an agent driver that has no options and needs no guest."""

    @hookimpl
    def vc_agent_create(self, saved: Mapping[str, object] | None) -> NoopAgent:
        """Return the agent of one pod. It runs no commands, so it uses no spawner."""
        return NoopAgent(saved)
