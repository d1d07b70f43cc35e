"""The plug-in class that the entry point names."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files

from vc_agent_sshd.config import SshdConfig
from vc_core.agent import Agent, GuestPayload
from vc_core.context import PodContext
from vc_core.hookspecs import hookimpl
from vc_core.spawner import Spawner

#: Of the guest's kernel: virtio devices, the shares, overlays, the network card of the SSH port.
_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay", "virtio_net")

#: The daemon; what starts containers; a shell; and all the usual small programs in one, mount among them.
_PACKAGES = ("openssh-server", "util-linux", "dash", "busybox-static")

#: The address that a guest has on the hypervisor's network for the host alone.
_PARAMS = ("vc.address=10.0.2.15/24",)

#: Where the guest has this distribution's files.
_FILES = {"/init": "init.sh", "/etc/passwd": "passwd", "/etc/group": "group", "/etc/ssh/sshd_config": "sshd_config"}


class SshdPlugin:
    """Agent driver ``sshd``."""

    @hookimpl
    def vc_agent_config(self, options: Mapping[str, object]) -> SshdConfig:
        """Turn options into this driver's configuration."""
        return SshdConfig.from_mapping(options)

    @hookimpl
    def vc_agent_create(
        self, pod: PodContext, config: SshdConfig, spawner: Spawner | None, saved: Mapping[str, object] | None
    ) -> Agent:
        """Make the object that reaches into one pod's guest."""
        from vc_agent_sshd.agent import SshdAgent  # asyncssh takes a quarter of a second to import

        return SshdAgent(pod, config, spawner, saved)

    @hookimpl
    def vc_agent_guest(self, config: SshdConfig) -> GuestPayload | None:
        """Say what a guest of its own consists of; a given server is none."""
        if config.server:
            return None
        directory = files(__package__) / "guest"
        return GuestPayload(
            files={path: str(directory / name) for path, name in _FILES.items()},
            modules=_MODULES,
            packages=_PACKAGES,
            kernel_params=_PARAMS,
        )
