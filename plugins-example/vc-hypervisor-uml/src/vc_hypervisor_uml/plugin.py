"""The two plug-in classes: the hypervisor ``uml``, and the guest driver of the same name that builds what it boots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vc_core.driver import GuestBuilder, Hypervisor, PodContext, hookimpl, read_options
from vc_hypervisor_uml import package


@dataclass(frozen=True, slots=True)
class UmlConfig:
    """The drivers have no options."""


class UmlPlugin:
    """Implements the hooks of the hypervisor driver ``uml``."""

    @hookimpl
    def vc_hypervisor_config(self, options: Mapping[str, object]) -> UmlConfig:
        """Return the configuration. Raises ConfigError for any option."""
        return read_options(UmlConfig, options, "hypervisor uml")

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


class UmlGuestPlugin:
    """Implements the hooks of the guest driver ``uml``."""

    @hookimpl
    def vc_guest_config(self, options: Mapping[str, object]) -> UmlConfig:
        """Return the configuration. Raises ConfigError for any option."""
        return read_options(UmlConfig, options, "guest driver uml")

    @hookimpl
    def vc_guest_create(self) -> GuestBuilder:
        """Return the builder."""
        from vc_hypervisor_uml.guest import UmlBuilder

        return UmlBuilder()

    @hookimpl
    def vc_driver_probe(self) -> Sequence[str]:
        """Return why the kernel is missing or does not work on this host."""
        return package.problems()
