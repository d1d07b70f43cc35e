"""The kinds of plug-in, and what follows from a kind: its entry-point group and its noun in messages."""

from __future__ import annotations

from enum import StrEnum


class PluginKind(StrEnum):
    """The kinds of plug-in; four of them are drivers."""

    HYPERVISOR = "hypervisor"
    AGENT = "agent"
    SPAWNER = "spawner"
    GUEST = "guest"
    EXTENSION = "extension"

    @property
    def group(self) -> str:
        """The entry-point group in which distributions offer plug-ins of this kind."""
        return f"vc_core.{self}s"

    @property
    def noun(self) -> str:
        """The noun for a plug-in of this kind in messages, such as "agent driver"."""
        return str(self) if self is PluginKind.EXTENSION else f"{self} driver"
