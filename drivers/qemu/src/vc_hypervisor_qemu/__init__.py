"""The hypervisor driver ``qemu``: a pod is a virtual machine of QEMU."""

from vc_hypervisor_qemu.config import QemuConfig
from vc_hypervisor_qemu.plugin import QemuPlugin

__all__ = ["QemuConfig", "QemuPlugin"]
