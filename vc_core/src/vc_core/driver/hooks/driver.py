"""Hooks that a driver of any kind may implement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from vc_core.driver.hooks._markers import hookspec


class DriverSpec(Protocol):
    """Optional hooks of every driver."""

    @hookspec(firstresult=True)
    def vc_driver_probe(self) -> Sequence[str]:
        """Return why the driver cannot work on this host.

        Called: by ``virtc drivers``. Cheap: looks at files, starts no process.
        Returns one sentence for each reason, with what to do; empty means that it works.
        """
