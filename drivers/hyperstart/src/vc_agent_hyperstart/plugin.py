"""The plug-in class that the entry point names."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from vc_agent_hyperstart.config import HyperstartConfig
from vc_core.agent import Agent, GuestPayload
from vc_core.context import PodContext
from vc_core.errors import GuestError
from vc_core.hookspecs import hookimpl
from vc_core.spawner import Spawner

#: The guest agent, compiled by this distribution's build hook.
GUEST_AGENT = Path(__file__).parent / "guest" / "init"

#: What the guest agent needs of the kernel: virtio devices on either bus, the channels, the share, and the overlay.
_MODULES = ("virtio_pci", "virtio_mmio", "virtio_console", "9pnet_virtio", "9p", "overlay")

#: What it loads when it first needs it, by the names under which it looks for them: file systems have theirs.
_LATER = {
    "disks": ("virtio_blk", "virtio_scsi", "sd_mod"),
    "network": ("virtio_net",),
    "ext4": ("ext4",),
    "squashfs": ("squashfs",),
    "erofs": ("erofs",),
}

#: For commands in the guest's own root: a shell and all the usual tools in one static program of 2 MB.
_PACKAGES = ("busybox-static",)


class HyperstartPlugin:
    """Agent driver ``hyperstart``."""

    @hookimpl
    def vc_agent_config(self, options: Mapping[str, object]) -> HyperstartConfig:
        """Turn options into this driver's configuration."""
        return HyperstartConfig.from_mapping(options)

    @hookimpl
    def vc_agent_create(
        self, pod: PodContext, config: HyperstartConfig, spawner: Spawner | None, saved: Mapping[str, object] | None
    ) -> Agent:
        """Make the object that reaches into one pod's guest. A spawner is not needed: the guest enters containers."""
        from vc_agent_hyperstart.agent import HyperstartAgent

        return HyperstartAgent(pod, config, saved)

    @hookimpl
    def vc_agent_guest(self, config: HyperstartConfig) -> GuestPayload:
        """Say what a guest for this agent consists of."""
        if problem := _guest_agent_problem():
            raise GuestError(problem)
        return GuestPayload({"/init": str(GUEST_AGENT)}, modules=_MODULES, later=_LATER, packages=_PACKAGES)

    @hookimpl
    def vc_driver_probe(self) -> Sequence[str]:
        """Say what keeps the driver from working on this host."""
        problem = _guest_agent_problem()
        return [problem] if problem else []


def _guest_agent_problem() -> str:
    """Return one sentence if there is no guest agent to run, else nothing."""
    if os.access(GUEST_AGENT, os.X_OK):
        return ""
    return (
        f"the guest agent {str(GUEST_AGENT)!r} is missing or not executable; install a wheel of vc-agent-hyperstart, "
        "or a C compiler (Debian: musl-tools) and then this distribution from source"
    )
