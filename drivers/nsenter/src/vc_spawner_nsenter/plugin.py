"""The plug-in class that the entry point names."""

from __future__ import annotations

from vc_core.driver import Spawner, hookimpl
from vc_spawner_nsenter.config import NsenterConfig
from vc_spawner_nsenter.spawner import NsenterSpawner


class NsenterPlugin:
    """Spawner driver ``nsenter``. Its program is in the guest, so there is nothing to probe on the host."""

    @hookimpl
    def vc_driver_options(self) -> type[NsenterConfig]:
        """Return the class whose fields are the driver's options."""
        return NsenterConfig

    @hookimpl
    def vc_spawner_create(self, config: NsenterConfig) -> Spawner:
        """Return the spawner of one pod."""
        return NsenterSpawner(config)
