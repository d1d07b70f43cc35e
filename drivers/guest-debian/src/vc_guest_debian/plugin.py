"""The plug-in class that the entry point names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vc_core.driver import GuestBuilder, hookimpl
from vc_guest_debian.builder import DebianBuilder
from vc_guest_debian.config import DebianConfig
from vc_guest_debian.tools import missing_tools


class DebianPlugin:
    """The Guest driver ``debian``."""

    @hookimpl
    def vc_guest_config(self, options: Mapping[str, object]) -> DebianConfig:
        """Turn options into a DebianConfig."""
        return DebianConfig.from_mapping(options)

    @hookimpl
    def vc_guest_create(self, config: DebianConfig) -> GuestBuilder:
        """Make a builder."""
        return DebianBuilder(config)

    @hookimpl
    def vc_driver_probe(self) -> Sequence[str]:
        """Name the tools that are missing."""
        return missing_tools()
