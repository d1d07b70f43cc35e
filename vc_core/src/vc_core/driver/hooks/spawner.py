"""Hooks of a Spawner driver (entry-point group ``vc_core.spawners``)."""

from __future__ import annotations

from typing import Protocol

from vc_core.driver.hooks._markers import hookspec
from vc_core.driver.spawner import Spawner


class SpawnerSpec(Protocol):
    """What a Spawner plug-in implements; its hook is required."""

    @hookspec(firstresult=True)
    def vc_spawner_create(self, config: object) -> Spawner:
        """Make the object that wraps commands. Does no I/O.

        Called: before an agent that uses it is made. ``config``: see ``vc_driver_options``. Returns the object.
        """
