"""Hooks of a Spawner driver (entry-point group ``vc_core.spawners``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from vc_core.driver.hooks._markers import hookspec
from vc_core.driver.spawner import Spawner


class SpawnerSpec(Protocol):
    """What a Spawner plug-in implements; both hooks are required."""

    @hookspec(firstresult=True)
    def vc_spawner_config(self, options: Mapping[str, object]) -> object:
        """Turn options into the driver's own frozen configuration; see :func:`vc_core.driver.read_options`.

        Called: when a pod with this spawner is created, and before each call of ``vc_spawner_create``.
        ``options``: the spawner's options as the caller gave them.
        Returns the configuration; never None. Raises ConfigError for an unknown option or a bad value, naming both.
        """

    @hookspec(firstresult=True)
    def vc_spawner_create(self, config: object) -> Spawner:
        """Make the object that wraps commands. Does no I/O.

        Called: before an agent that uses it is made. ``config``: from ``vc_spawner_config``. Returns the object.
        """
