"""The plug-in class of the hypervisor ``libvirt``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vc_core.driver import Hypervisor, PodContext, hookimpl
from vc_hypervisor_libvirt.config import LibvirtConfig


class LibvirtPlugin:
    """Implements the hooks of the hypervisor driver ``libvirt``."""

    @hookimpl
    def vc_driver_options(self) -> type[LibvirtConfig]:
        """Return the class whose fields are the options."""
        return LibvirtConfig

    @hookimpl
    def vc_hypervisor_create(
        self, pod: PodContext, config: LibvirtConfig, saved: Mapping[str, object] | None
    ) -> Hypervisor:
        """Return the object that controls one pod's VM. Raises ConfigError, HypervisorError."""
        from vc_hypervisor_libvirt.hypervisor import LibvirtHypervisor

        return LibvirtHypervisor(pod, config, saved)

    @hookimpl
    def vc_driver_probe(self) -> Sequence[str]:
        """Return which programs are missing on this host, or that no daemon listens."""
        from vc_hypervisor_libvirt import host

        return host.problems()
