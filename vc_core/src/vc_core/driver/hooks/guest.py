"""Hooks of a Guest driver (entry-point group ``vc_core.guests``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from vc_core.driver.guest import GuestBuilder
from vc_core.driver.hooks._markers import hookspec


class GuestSpec(Protocol):
    """What a Guest plug-in implements; both hooks are required."""

    @hookspec(firstresult=True)
    def vc_guest_config(self, options: Mapping[str, object]) -> object:
        """Turn options into the driver's own frozen configuration; see :func:`vc_core.driver.read_options`.

        Called: before a builder is made. ``options``: the builder's options as the caller gave them.
        Returns the configuration; never None. Raises ConfigError for an unknown option or a bad value, naming both.
        """

    @hookspec(firstresult=True)
    def vc_guest_create(self, config: object) -> GuestBuilder:
        """Make the object that builds guests. Does no I/O.

        Called: at the start of a pod that names no kernel and image, and by ``virtc guest``.
        ``config``: from ``vc_guest_config``. Returns the object.
        """
