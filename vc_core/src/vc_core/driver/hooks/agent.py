"""Hooks of an Agent driver (entry-point group ``vc_core.agents``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from vc_core.driver.agent import Agent
from vc_core.driver.context import PodContext
from vc_core.driver.guest import GuestPayload
from vc_core.driver.hooks._markers import hookspec
from vc_core.driver.spawner import Spawner


class AgentSpec(Protocol):
    """What an Agent plug-in implements; ``vc_agent_guest`` is optional."""

    @hookspec(firstresult=True)
    def vc_agent_create(
        self, pod: PodContext, config: object, spawner: Spawner | None, saved: Mapping[str, object] | None
    ) -> Agent:
        """Make the object that reaches into one pod's guest. Does no I/O.

        Called: once per start of a pod, and once in each process that takes over its VM.
        ``pod``: the pod. ``config``: see ``vc_driver_options``. ``spawner``: the one of the agent's options, or None.
        ``saved``: None for a new VM, else what ``Agent.save()`` returned, to take over that guest.
        Returns the object. Raises ConfigError when the pod cannot be served with this configuration.
        """

    @hookspec(firstresult=True)
    def vc_agent_guest(self, config: object) -> GuestPayload | None:
        """Return what the agent needs inside a guest, for a guest driver to build one.

        Called: when a pod that names no kernel and image starts, and by ``virtc guest build``.
        ``config``: see ``vc_driver_options``.
        Returns the payload, or None when the agent runs in no built guest. Raises GuestError when a file is missing.
        """
