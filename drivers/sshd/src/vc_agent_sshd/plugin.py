"""The plug-in class that the entry point names."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files

from vc_agent_sshd.config import SshdConfig
from vc_core.driver import Agent, GuestPayload, PodContext, Spawner, hookimpl

#: Modules of the guest's kernel: virtio devices, where the keys come, the shares, overlays, the network card of the SSH
#: port.
_MODULES = ("virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay", "virtio_net")

#: Debian packages of the guest: the daemon, the programs that start containers, a shell, and the usual small programs.
_PACKAGES = ("openssh-server", "util-linux", "dash", "busybox-static")

#: The guest's address on the network that the hypervisor makes for the SSH port.
_PARAMS = ("vc.address=10.0.2.15/24",)

#: Paths in the guest of this distribution's files. ``wake`` is compiled by its build hook.
_FILES = {
    "/init": "init.sh",
    "/usr/sbin/wake": "wake",
    "/usr/lib/vc-sshd/containers.sh": "containers.sh",
    "/usr/lib/vc-sshd/launch.sh": "launch.sh",
    "/etc/passwd": "passwd",
    "/etc/group": "group",
    "/etc/ssh/sshd_config": "sshd_config",
}


class SshdPlugin:
    """Agent driver ``sshd``."""

    @hookimpl
    def vc_driver_options(self) -> type[SshdConfig]:
        """Return the class whose fields are the driver's options."""
        return SshdConfig

    @hookimpl
    def vc_agent_create(
        self, pod: PodContext, config: SshdConfig, spawner: Spawner | None, saved: Mapping[str, object] | None
    ) -> Agent:
        """Return the agent of one pod."""
        from vc_agent_sshd.agent import SshdAgent

        return SshdAgent(pod, config, spawner, saved)

    @hookimpl
    def vc_agent_guest(self, config: SshdConfig) -> GuestPayload | None:
        """Return the parts of a guest of the pod's own, None for a given server."""
        if config.server:
            return None
        directory = files(__package__) / "guest"
        return GuestPayload(
            files={path: str(directory / name) for path, name in _FILES.items()},
            modules=_MODULES,
            packages=_PACKAGES,
            kernel_params=_PARAMS,
        )
