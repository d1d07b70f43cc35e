"""Which devices a VM can have, and beside which others."""

from __future__ import annotations

import re
from collections.abc import Sequence

from vc_core.devices import Channel, Device, GuestPort, NetworkInterface, SharedDirectory
from vc_core.errors import ConfigError
from vc_core.network import PortForward
from vc_hypervisor_qemu import network
from vc_hypervisor_qemu.arguments import text

#: How many of each kind a VM can have: ports of one serial device, and of the bus's 30 slots (measured on 7.2) those
#: that are not kept for the devices of which there is one.
_MOST = {Channel: 30, SharedDirectory: 24, NetworkInterface: 1, GuestPort: 30}

#: What is unique among a VM's devices, whatever their kinds: what QEMU, the guest or the core knows them by.
_UNIQUE = ("id", "name", "tag")

#: QEMU's rule for ids (``id_wellformed`` in its util/id.c).
_ID = re.compile(r"[A-Za-z][A-Za-z0-9._-]*", re.ASCII)


def check(device: Device, others: Sequence[Device]) -> None:
    """Refuse a device that a VM cannot be given beside ``others``. Called before a VM is made. Raises ConfigError."""
    kind = type(device)
    if kind not in _MOST:
        raise ConfigError(f"hypervisor qemu has no devices such as {device}")
    if sum(type(other) is kind for other in others) == _MOST[kind]:
        raise ConfigError(
            f"{device} is one device too many: a VM of hypervisor qemu has {_MOST[kind]} of the kind at most"
        )
    path = getattr(device, "host_path", None)
    if path is not None and not path.is_absolute():
        raise ConfigError(f"host path {str(path)!r} of {device} must be absolute")
    if isinstance(device, Channel) and not _ID.fullmatch(device.id):
        raise ConfigError(f"channel id {device.id!r} is not valid: a letter, then letters, digits, '-', '.' and '_'")
    if isinstance(device, NetworkInterface):
        network.check(device.config)
    if isinstance(device, GuestPort):
        PortForward(device.port)  # which refuses what is no port
    for key in _UNIQUE:
        value = text(key, getattr(device, key, ""))
        if value and any(getattr(other, key, None) == value for other in others):
            raise ConfigError(f"two devices have the {key} {value!r}; it must be unique")
