"""The plug-in class of the driver ``mock``."""

from __future__ import annotations

from collections.abc import Mapping

from vc_core.driver import PodContext, hookimpl
from vc_hypervisor_mock.config import MockConfig
from vc_hypervisor_mock.hypervisor import MockHypervisor


class MockPlugin:
    """Implements the hooks of a hypervisor driver."""

    @hookimpl
    def vc_hypervisor_config(self, options: Mapping[str, object]) -> MockConfig:
        """Return this driver's configuration. Raises ConfigError."""
        return MockConfig.from_mapping(options)

    @hookimpl
    def vc_hypervisor_create(
        self, pod: PodContext, config: object, saved: Mapping[str, object] | None
    ) -> MockHypervisor:
        """Return the VM of one pod."""
        assert isinstance(config, MockConfig), "the core passes what vc_hypervisor_config returned"
        return MockHypervisor(pod, config, saved)
