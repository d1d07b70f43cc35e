"""Hooks of a Guest driver (entry-point group ``vc_core.guests``)."""

from __future__ import annotations

from typing import Protocol

from vc_core.driver.guest import GuestBuilder
from vc_core.driver.hooks._markers import hookspec


class GuestSpec(Protocol):
    """What a Guest plug-in implements; its hook is required."""

    @hookspec(firstresult=True)
    def vc_guest_create(self, config: object) -> GuestBuilder:
        """Make the object that builds guests. Does no I/O.

        Called: at the start of a pod that names no kernel and image, and by ``virtc guest``.
        ``config``: see ``vc_driver_options``. Returns the object.
        """
