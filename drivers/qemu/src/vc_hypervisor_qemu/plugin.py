"""The plug-in class of the driver ``qemu``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vc_core.driver import HostCheck, HostContext, PodContext, hookimpl
from vc_hypervisor_qemu.config import QemuConfig
from vc_hypervisor_qemu.host import problems
from vc_hypervisor_qemu.hypervisor import QemuHypervisor


class QemuPlugin:
    """Implements the hooks of a hypervisor driver."""

    @hookimpl
    def vc_driver_options(self) -> type[QemuConfig]:
        """Return the class whose fields are the driver's options."""
        return QemuConfig

    @hookimpl
    def vc_hypervisor_create(
        self, pod: PodContext, config: object, saved: Mapping[str, object] | None
    ) -> QemuHypervisor:
        """Return the object that controls one pod's QEMU. Raises ConfigError, HypervisorError."""
        assert isinstance(config, QemuConfig), "the core passes an object of vc_driver_options"
        return QemuHypervisor(pod, config, saved)

    @hookimpl
    def vc_driver_probe(self) -> Sequence[str]:
        """Return why QEMU cannot work on this host, in one sentence for each reason."""
        return problems()

    @hookimpl
    def vc_driver_check(self, host: HostContext) -> Sequence[HostCheck]:
        """Return what works on this host: acceleration, this QEMU, and each part of its jail."""
        from vc_hypervisor_qemu.checks import check

        return check(host)
