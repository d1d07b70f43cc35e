"""The devices that the core and agents ask a hypervisor to add to a VM. Plain data."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path

from vc_core.config.network import NetworkConfig
from vc_core.frozen import frozen


@frozen
class Channel:
    """A named byte channel between host and guest: the channel of libvirt, a port of virtio-serial.

    The guest finds it by ``name``; the host opens it with ``Hypervisor.open_channel(name)``. ``id`` is unique within
    the pod: a letter, then letters, digits, ``-._``. ``host_path``: the path of the socket that the hypervisor listens
    on; None leaves it to the driver.
    """

    id: str
    name: str
    host_path: Path | None = None


@frozen
class SharedDirectory:
    """A host directory that the guest can mount by ``tag`` (at most 31 bytes).

    ``owners``: what the guest makes there has the owners, modes and types on the host that the guest gives it, but for
    set-user-id and set-group-id bits and devices; only for a writable one, and only with Capability OWNERS of the
    hypervisor. Without it the hypervisor must keep owners and modes of such files off the host.
    """

    tag: str
    host_path: Path
    read_only: bool = True
    owners: bool = False


@frozen
class BlockDevice:
    """A file or block device of the host that the guest sees as a disk; never interpreted as an image format.

    ``id`` is unique within the pod, like a channel's. ``Hypervisor.disk_location(id)`` returns its place in the guest.
    ``descriptor``: what the core has checked, a reference to the open file (O_PATH, open(2)) that is valid until
    ``Hypervisor.prepare`` or ``attach`` returns; None in tests. A driver should open :attr:`opened`, so that nobody can
    put another file into its place meanwhile.
    """

    id: str
    host_path: Path
    read_only: bool = True
    descriptor: int | None = field(default=None, compare=False, repr=False)

    @property
    def opened(self) -> Path:
        """Return a path of the file that the core has checked, for this process only; without one ``host_path``."""
        return self.host_path if self.descriptor is None else Path(f"/proc/self/fd/{self.descriptor}")


@frozen
class NetworkInterface:
    """A network interface of the pod; ``mac`` is always given.

    In the guest they are ``eth0``, ``eth1`` and so on, in the order in which they are added to the VM. Only the first
    can have a ``config`` with forwards, gateway and name servers; the others are on tap devices.

    ``addresses`` (each with its prefix length), ``gateway`` and ``dns`` are what the agent configures in the guest.
    When the device is added to a VM, they are those of ``config``, empty where the caller gave none;
    ``Hypervisor.resolve_network`` fills in those that the hypervisor's network has by default. ``detached``: the VM
    becomes a template, or proves that it is one, so its interface must be connected to nothing of the host.
    """

    config: NetworkConfig
    mac: str
    addresses: tuple[str, ...] = ()
    gateway: str = ""
    dns: tuple[str, ...] = ()
    detached: bool = False

    @classmethod
    def of(cls, config: NetworkConfig, mac: str) -> NetworkInterface:
        """Return the interface of a configured network, with the addresses that the caller gave."""
        return cls(config, mac, tuple(config.addresses), config.gateway, tuple(config.dns))


@frozen
class GuestPort:
    """A TCP port of the guest that ``Hypervisor.open_channel(name)`` connects to, from this host only.

    It works with any network of the pod, and without one.
    """

    name: str
    port: int


Device = Channel | SharedDirectory | BlockDevice | NetworkInterface | GuestPort


@frozen
class DiskLocation:
    """The place of a disk in the guest: the name of a device file below /dev, or a SCSI target and unit ("0:1")."""

    name: str = ""
    scsi: str = ""
