"""Options of the driver ``libvirt``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated, Literal

from vc_core.errors import ConfigError

#: How the VM executes code, as libvirt calls it (the attribute ``type`` of a domain).
DomainType = Literal["qemu", "kvm"]

#: The same as status shows it.
ACCELERATIONS: dict[DomainType, str] = {"qemu": "tcg", "kvm": "kvm"}

#: The variable that names the daemon (supervisors get variables of the beginning ``VC_``), and the daemon without it.
URI_VARIABLE, _DEFAULT_URI = "VC_LIBVIRT_URI", "qemu:///system"


@dataclass(frozen=True, slots=True, kw_only=True)
class LibvirtConfig:
    """The options of libvirt, beyond the fields of ``HypervisorConfig``."""

    uri: Annotated[str, "the daemon, on this host; without it, what VC_LIBVIRT_URI names, else qemu:///system"] = ""
    type: Annotated[
        DomainType, "qemu: the CPU is emulated; kvm: hardware virtualization, which must work on the host"
    ] = "qemu"

    def __post_init__(self) -> None:
        if self.uri and not self.uri.startswith(("qemu:", "qemu+unix:")):
            raise ConfigError(
                f"option uri of hypervisor libvirt is {self.uri!r}; give that of a daemon on this host: qemu:///system"
            )

    def daemon(self) -> str:
        """Return the URI of the daemon. Called when a VM is made; later owners use the recorded one."""
        return self.uri or os.environ.get(URI_VARIABLE) or _DEFAULT_URI
