"""The plug-in class of the driver ``debian``."""

from __future__ import annotations

from collections.abc import Sequence

from vc_core.driver import GuestBuilder, HostCheck, HostContext, hookimpl
from vc_guest_debian.builder import DebianBuilder
from vc_guest_debian.checks import check
from vc_guest_debian.config import DebianConfig
from vc_guest_debian.tools import missing_tools


class DebianPlugin:
    """Implements the hooks of a guest driver."""

    @hookimpl
    def vc_driver_options(self) -> type[DebianConfig]:
        """Return the class whose fields are the driver's options."""
        return DebianConfig

    @hookimpl
    def vc_guest_create(self, config: DebianConfig) -> GuestBuilder:
        """Return the builder."""
        return DebianBuilder(config)

    @hookimpl
    def vc_driver_probe(self) -> Sequence[str]:
        """Return one sentence for each tool that is missing."""
        return missing_tools()

    @hookimpl
    def vc_driver_check(self, host: HostContext) -> Sequence[HostCheck]:
        """Return whether the guest of the pods' agent is built."""
        return list(check(host))
