"""The plug-in class of the driver ``mock``."""

from __future__ import annotations

from collections.abc import Mapping

from vc_core.driver import PodContext, hookimpl
from vc_hypervisor_mock.config import MockConfig
from vc_hypervisor_mock.hypervisor import MockHypervisor


class MockPlugin:
    """Implements the hooks of a hypervisor driver."""

    @hookimpl
    def vc_driver_options(self) -> type[MockConfig]:
        """Return the class whose fields are the driver's options."""
        return MockConfig

    @hookimpl
    def vc_hypervisor_create(
        self, pod: PodContext, config: object, saved: Mapping[str, object] | None
    ) -> MockHypervisor:
        """Return the VM of one pod."""
        assert isinstance(config, MockConfig), "the core passes an object of vc_driver_options"
        return MockHypervisor(pod, config, saved)
