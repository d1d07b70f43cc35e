"""The plug-in class that the entry point names."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from vc_agent_hyperstart.config import HyperstartConfig
from vc_core.driver import Agent, GuestPayload, PodContext, Spawner, hookimpl
from vc_core.errors import GuestError

#: The guest agent, compiled by this distribution's build hook.
GUEST_AGENT = Path(__file__).parent / "guest" / "init"

#: Modules that the guest loads at boot: virtio devices on either bus, the channels, the shares, and the overlay.
_MODULES = ("virtio_pci", "virtio_mmio", "virtio_console", "9pnet_virtio", "9p", "overlay")

#: Modules that the guest agent loads at their first use, by the names that it looks for.
_LATER = {
    "disks": ("virtio_blk", "virtio_scsi", "sd_mod"),
    "network": ("virtio_net",),
    "ext4": ("ext4",),
    "squashfs": ("squashfs",),
    "erofs": ("erofs",),
    "xfs": ("xfs",),
}

#: Debian packages for commands in the guest's own root: a shell and the usual tools in one static program of 2 MB.
_PACKAGES = ("busybox-static",)


class HyperstartPlugin:
    """Agent driver ``hyperstart``."""

    @hookimpl
    def vc_driver_options(self) -> type[HyperstartConfig]:
        """Return the class whose fields are the driver's options."""
        return HyperstartConfig

    @hookimpl
    def vc_agent_create(
        self, pod: PodContext, config: HyperstartConfig, spawner: Spawner | None, saved: Mapping[str, object] | None
    ) -> Agent:
        """Return the agent of one pod. It needs no spawner: the guest enters containers itself. Raises ConfigError."""
        from vc_agent_hyperstart.agent import HyperstartAgent

        return HyperstartAgent(pod, config, saved)

    @hookimpl
    def vc_agent_guest(self, config: HyperstartConfig) -> GuestPayload:
        """Return the files, modules and packages of a guest for this agent. Raises GuestError."""
        if problem := _guest_agent_problem():
            raise GuestError(problem)
        return GuestPayload({"/init": str(GUEST_AGENT)}, modules=_MODULES, later=_LATER, packages=_PACKAGES)

    @hookimpl
    def vc_driver_probe(self) -> Sequence[str]:
        """Return what prevents the driver from working on this host."""
        problem = _guest_agent_problem()
        return [problem] if problem else []


def _guest_agent_problem() -> str:
    """Return one sentence if the guest agent is missing, else nothing."""
    if os.access(GUEST_AGENT, os.X_OK):
        return ""
    return (
        f"the guest agent {str(GUEST_AGENT)!r} is missing or not executable; install a wheel of vc-agent-hyperstart, "
        "or a C compiler (Debian: musl-tools) and then this distribution from source"
    )
