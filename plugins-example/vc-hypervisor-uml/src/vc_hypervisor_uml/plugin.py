"""The two plug-in classes: the hypervisor ``uml``, and the guest driver of the same name that builds what it boots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vc_core.driver import CheckOutcome, GuestBuilder, HostCheck, Hypervisor, PodContext, hookimpl
from vc_hypervisor_uml import package


class UmlPlugin:
    """Implements the hooks of the hypervisor driver ``uml``, which has no options."""

    @hookimpl
    def vc_hypervisor_create(self, pod: PodContext, saved: Mapping[str, object] | None) -> Hypervisor:
        """Return the object that controls one pod's VM. Raises ConfigError, HypervisorError."""
        from vc_hypervisor_uml.hypervisor import UmlHypervisor

        return UmlHypervisor(pod, saved)

    @hookimpl
    def vc_hypervisor_guest(self) -> str:
        """Return the guest driver of this distribution: the kernels that ``debian`` builds are not programs."""
        return "uml"

    @hookimpl
    def vc_driver_probe(self) -> Sequence[str]:
        """Return why the kernel is missing or does not work on this host."""
        return package.problems()

    @hookimpl
    def vc_driver_check(self) -> Sequence[HostCheck]:
        """Return that nothing confines the VM's process; nothing of this host is asked."""
        return [
            HostCheck(
                name="jail",
                outcome=CheckOutcome.WARNING,
                found="none",
                meaning="User Mode Linux is a process of root, and root of its guest can use the host's files.",
                remedy="use the hypervisor qemu for guests that you do not trust",
            )
        ]


class UmlGuestPlugin:
    """Implements the hooks of the guest driver ``uml``, which has no options."""

    @hookimpl
    def vc_guest_create(self) -> GuestBuilder:
        """Return the builder."""
        from vc_hypervisor_uml.guest import UmlBuilder

        return UmlBuilder()

    @hookimpl
    def vc_driver_probe(self) -> Sequence[str]:
        """Return why the kernel is missing or does not work on this host."""
        return package.problems()
