"""The Hypervisor interface: what a driver's ``vc_hypervisor_create`` returns."""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from vc_core.config.network import PortForward
from vc_core.driver.devices import BlockDevice, Device, DiskLocation
from vc_core.driver.kinds import PluginKind, unsupported
from vc_core.driver.process import ProcessIdentity


class HypervisorCapability(StrEnum):
    """What a hypervisor can do beyond starting and stopping a VM."""

    PROCESS = "process"  #: the VM is a host process: it outlives its creator and gets a supervisor
    CHANNELS = "channels"  #: open_channel works
    SHARED_DIRECTORIES = "shared-directories"  #: SharedDirectory devices work
    PAUSE = "pause"  #: pause and resume work
    BLOCK_DEVICES = "block-devices"  #: BlockDevice devices and disk_location work
    HOTPLUG = "hotplug"  #: attach and detach work, for disks of a VM that runs
    NETWORK = "network"  #: NetworkInterface devices work
    GUEST_PORTS = "guest-ports"  #: GuestPort devices work


@dataclass(frozen=True, slots=True)
class VMExit:
    """How a VM ended. ``expected`` is true when a ``stop`` asked for it; ``reason`` is one sentence."""

    expected: bool
    reason: str


class Hypervisor(ABC):
    """One pod's virtual machine.

    The core makes one through the driver's hook, calls :meth:`add_device` for every device, then :meth:`prepare`,
    commits :meth:`save` and :meth:`identity` to disk, and only then :meth:`start`. A later process makes another one
    with ``saved`` set to what :meth:`save` returned: it controls the same VM, and the core does not call
    ``add_device``, ``prepare`` or ``start`` on it.

    Every method raises only ``VCError`` subclasses. All ``timeout`` arguments are seconds from the call.
    """

    @property
    @abstractmethod
    def capabilities(self) -> frozenset[HypervisorCapability]:
        """What this hypervisor can do; the same for every pod of one configuration."""

    @abstractmethod
    def add_device(self, device: Device) -> None:
        """Note a device for the VM. Called before prepare; does no I/O.

        Raises ConfigError for a device that no VM of this kind could have.
        """

    @abstractmethod
    async def prepare(self, timeout: float) -> None:
        """Bring the VM into being, with nothing running in it yet.

        Called once, at the start of a pod's start. On failure nothing may be left. A VM that is a process has the pod's
        run directory as its working directory and the pod's UUID as an argument, alone or as ``NAME=UUID``: so the core
        finds and kills it if this process dies before :meth:`identity` is recorded.
        Raises VMStartError with the hypervisor's own words, VMTimeoutError.
        """

    @abstractmethod
    async def start(self, timeout: float) -> None:
        """Let the VM run. Called once, after the core committed :meth:`save` and :meth:`identity`."""

    @abstractmethod
    async def stop(self, timeout: float) -> None:
        """End the VM and release what :meth:`prepare` made, within ``timeout`` seconds.

        Called when a pod is stopped, and to clean up after any failure: it accepts every state, and ending an ended
        VM is no error. The driver asks politely first and kills when time runs short.
        Raises HypervisorError when the VM still lives.
        """

    async def pause(self) -> None:
        """Suspend the VM. Only with Capability PAUSE."""
        raise _unsupported(self, "pause a VM")

    async def resume(self) -> None:
        """Continue a suspended VM. Only with Capability PAUSE."""
        raise _unsupported(self, "resume a VM")

    @abstractmethod
    async def wait(self) -> VMExit:
        """Return when the VM has ended, by an event and not by polling. Any number of callers may wait."""

    async def open_channel(self, name: str) -> socket.socket:
        """Return a connected, non-blocking socket to the guest's channel ``name``. Only with Capability CHANNELS.

        Called by the core on behalf of the agent, again after a lost connection. With Capability GUEST_PORTS the name
        may be that of a GuestPort. Raises HypervisorError.
        """
        raise _unsupported(self, "open channels into a VM")

    def disk_location(self, device_id: str) -> DiskLocation:
        """Return where the guest finds a disk. Valid from prepare or attach on. Only with Capability BLOCK_DEVICES."""
        raise _unsupported(self, "give disks to a VM")

    async def attach(self, device: BlockDevice, timeout: float) -> None:
        """Give a further disk to a VM that runs. Only with Capability HOTPLUG.

        Called before a container that has one starts on a running pod; the core commits :meth:`save` afterwards. A
        disk that is there already is no error. Raises HypervisorError.
        """
        raise _unsupported(self, "give disks to a VM that runs")

    async def detach(self, device_id: str, timeout: float) -> None:
        """Take a disk from a VM that runs. Only with Capability HOTPLUG.

        Called when the container that has it is gone; one that is not there is no error. Raises HypervisorError.
        """
        raise _unsupported(self, "take disks from a VM that runs")

    async def forwards(self) -> tuple[PortForward, ...]:
        """Return the pod's forwarded ports, with the ports of the host that were chosen. Valid from start on.

        Called by the core after :meth:`start` when the pod asked for any. Only with Capability NETWORK.
        """
        raise _unsupported(self, "forward ports")

    @abstractmethod
    def identity(self) -> ProcessIdentity | None:
        """Return the VM's process, or None for a hypervisor without one. Valid from prepare on."""

    @abstractmethod
    def save(self) -> Mapping[str, object]:
        """Return JSON-able facts from which the driver's create hook makes an object for the same VM."""

    def console_tail(self) -> str:
        """Return the last lines that the guest's console printed, for error messages. May be empty."""
        return ""

    @property
    def acceleration(self) -> str:
        """Return how the VM executes code: "kvm", "tcg", "none"... Shown by status. Valid from prepare on."""
        return "none"

    @property
    def isolation(self) -> str:
        """Return what the VM's boundary is worth: "hardware" or "none". Never claim more than holds."""
        return "none"

    async def aclose(self) -> None:  # noqa: B027 - nothing to release is a good default
        """Release this object's sockets and tasks; the VM runs on. Called before the owning process ends."""


_unsupported = partial(unsupported, PluginKind.HYPERVISOR)
