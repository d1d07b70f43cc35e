"""The two plug-in classes: the hypervisor ``uml``, and the guest driver of the same name that builds what it boots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vc_core.driver import GuestBuilder, Hypervisor, PodContext, hookimpl
from vc_core.errors import ConfigError
from vc_hypervisor_uml import package


class UmlPlugin:
    """Hypervisor driver ``uml``. It has no options."""

    @hookimpl
    def vc_hypervisor_config(self, options: Mapping[str, object]) -> Mapping[str, object]:
        """Refuse every option."""
        return _none("hypervisor", options)

    @hookimpl
    def vc_hypervisor_create(self, pod: PodContext, saved: Mapping[str, object] | None) -> Hypervisor:
        """Make the object that controls one pod's VM."""
        from vc_hypervisor_uml.hypervisor import UmlHypervisor

        return UmlHypervisor(pod, saved)

    @hookimpl
    def vc_hypervisor_guest(self) -> str:
        """Boot guests of our own: Debian's usual kernels are no programs."""
        return "uml"

    @hookimpl
    def vc_driver_probe(self) -> Sequence[str]:
        """Say whether the kernel is missing."""
        return package.problems()


class UmlGuestPlugin:
    """Guest driver ``uml``. It has no options."""

    @hookimpl
    def vc_guest_config(self, options: Mapping[str, object]) -> Mapping[str, object]:
        """Refuse every option."""
        return _none("guest driver", options)

    @hookimpl
    def vc_guest_create(self) -> GuestBuilder:
        """Make a builder."""
        from vc_hypervisor_uml.guest import UmlBuilder

        return UmlBuilder()

    @hookimpl
    def vc_driver_probe(self) -> Sequence[str]:
        """Say whether the kernel is missing."""
        return package.problems()


def _none(what: str, options: Mapping[str, object]) -> Mapping[str, object]:
    for name in options:
        raise ConfigError(f"{what} uml has no option {name!r}; it has none")
    return options
