"""Hypervisor: controls the virtual machine of one pod. A driver's ``vc_hypervisor_create`` returns one."""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path

from vc_core.config.network import PortForward
from vc_core.driver.devices import BlockDevice, Device, DiskLocation, NetworkInterface
from vc_core.driver.process import ProcessIdentity
from vc_core.driver.unsupported import unsupported
from vc_core.errors import sentence
from vc_core.frozen import frozen


class HypervisorCapability(StrEnum):
    """What a hypervisor can do beyond starting and stopping a VM.

    The core calls an optional method only if its capability is there.
    """

    PROCESS = "process"  #: the VM is a host process: it outlives its creator and gets a supervisor
    CHANNELS = "channels"  #: open_channel works
    SHARED_DIRECTORIES = "shared-directories"  #: SharedDirectory devices work
    OWNERS = "owners"  #: and those with ``owners``
    PAUSE = "pause"  #: pause and resume work
    BLOCK_DEVICES = "block-devices"  #: BlockDevice devices and disk_location work
    HOTPLUG = "hotplug"  #: attach and detach work, for disks of a VM that runs
    NETWORK = "network"  #: NetworkInterface devices work
    INTERFACES = "interfaces"  #: a VM can have several NetworkInterface devices
    GUEST_PORTS = "guest-ports"  #: GuestPort devices work
    DISCARD = "discard"  #: discard works; for VMs that a daemon starts, which the core cannot find itself
    TEMPLATES = "templates"  #: kind, use_template and save_template work
    CONSOLE = "console"  #: write_console works


@frozen
class VMExit:
    """How a VM ended. ``expected``: because of ``stop``. ``reason``: one sentence for errors and status.

    The reason is made safe to print, as the text of an error: it may quote the guest's console.
    """

    expected: bool
    reason: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", sentence(self.reason))


class Hypervisor(ABC):
    """One pod's virtual machine.

    The core makes one through the driver's hook, calls :meth:`add_device` for every device, then :meth:`prepare`,
    commits :meth:`save` and :meth:`identity` to disk, and only then calls :meth:`start`. A later process makes another
    one with ``saved`` set to what :meth:`save` returned: it controls the same VM, and the core does not call
    ``add_device``, ``prepare`` or ``start`` on it. A driver whose VM is a process of the host can derive from
    :class:`ProcessHypervisor`, which has the parts that are the same for all of them.

    Every method raises only ``VCError`` subclasses. All ``timeout`` arguments are seconds from the call. The core
    cancels a coroutine that takes longer, and ends a supervisor whose event loop a method blocks.
    """

    @property
    @abstractmethod
    def capabilities(self) -> frozenset[HypervisorCapability]:
        """Return what this hypervisor can do; the same for every pod of one configuration.

        Read when a pod is created, and before each optional operation.
        """

    @abstractmethod
    def add_device(self, device: Device) -> None:
        """Add a device to the VM that is to be made. Called once per device, before prepare; does no I/O.

        Raises ConfigError for a device that no VM of this kind can have, StateError after prepare.
        """

    @abstractmethod
    async def prepare(self, timeout: float) -> None:
        """Make the VM, with its CPUs stopped.

        Called once, when a pod starts. On failure the driver removes all that it made. A VM that is a process has the
        pod's run directory as its working directory and the pod's UUID as an argument, alone or as ``NAME=UUID``: by
        these the core finds and kills it if this process dies before :meth:`identity` is recorded. A driver whose VMs
        a daemon starts gives the UUID to the daemon instead, and has Capability DISCARD.
        Raises ConfigError, VMStartError with the hypervisor's own message, VMTimeoutError,
        StateError when called twice.
        """

    @abstractmethod
    async def start(self, timeout: float) -> None:
        """Start the VM's CPUs. Called once, after the core committed :meth:`save` and :meth:`identity`.

        Raises VMStartError with the hypervisor's own message, VMTimeoutError, HypervisorError when the VM has ended.
        """

    @abstractmethod
    async def stop(self, timeout: float) -> None:
        """End the VM and release what prepare made, within ``timeout`` seconds.

        Called when a pod is stopped, and to clean up after any failure: it accepts every state, and ending an ended
        VM is no error. The agent has asked the guest before, where it could; the driver asks what runs the VM to end,
        and kills it before the timeout. When a start was interrupted before what :meth:`save` returns was on record, it
        is called on a new object, made without ``saved``, after the core has killed the VM: a driver that makes
        anything outside of ``run_dir`` then finds it by ``PodContext.uuid``.
        Raises HypervisorError when the VM has not ended, or when what prepare made cannot be removed.
        """

    async def pause(self) -> None:
        """Stop the VM's CPUs. Only with Capability PAUSE.

        Called when a running pod is paused. Raises HypervisorError; NotSupportedError by default.
        """
        raise unsupported("hypervisor", self, "pause a VM")

    async def resume(self) -> None:
        """Start the CPUs of a paused VM again; no error if they run. Only with Capability PAUSE.

        Called when a paused pod is resumed. Raises HypervisorError; NotSupportedError by default.
        """
        raise unsupported("hypervisor", self, "resume a VM")

    @abstractmethod
    async def wait(self) -> VMExit:
        """Return when the VM has ended, by an event and not by polling.

        Called as soon as the VM is started or taken over. Any number of callers may wait.
        Raises HypervisorError when :meth:`aclose` is called before the end.
        """

    async def open_channel(self, name: str) -> socket.socket:
        """Return a connected, non-blocking socket to the guest's channel ``name``. Only with Capability CHANNELS.

        Called when the agent connects, and again after a lost connection; the agent closes the socket. With Capability
        GUEST_PORTS the name may be that of a GuestPort. Raises HypervisorError; NotSupportedError by default.
        """
        raise unsupported("hypervisor", self, "open channels into a VM")

    def disk_location(self, device_id: str) -> DiskLocation:
        """Return where the guest finds the disk ``device_id``. Only with Capability BLOCK_DEVICES.

        Called after prepare or attach, before a container on the disk starts. Raises HypervisorError for a disk that
        the VM does not have; NotSupportedError by default.
        """
        raise unsupported("hypervisor", self, "give disks to a VM")

    async def attach(self, device: BlockDevice, timeout: float) -> None:
        """Add a disk to a running VM. Only with Capability HOTPLUG.

        Called before a container with a disk starts on a running pod; the core commits :meth:`save` afterwards. A
        disk that the VM has already is no error. Raises ConfigError for a file that cannot be a disk, HypervisorError,
        VMTimeoutError; NotSupportedError by default.
        """
        raise unsupported("hypervisor", self, "give disks to a VM that runs")

    async def detach(self, device_id: str, timeout: float) -> None:
        """Remove a disk from a running VM. Only with Capability HOTPLUG.

        Called when the container on it has ended and the guest has unmounted it. A disk that the VM does not have is no
        error. Raises HypervisorError, VMTimeoutError; NotSupportedError by default.
        """
        raise unsupported("hypervisor", self, "take disks from a VM that runs")

    def resolve_network(self, interface: NetworkInterface) -> NetworkInterface:
        """Return the pod's interface with the addresses, gateway and name servers that the guest has on this network.

        Called after prepare and before the agent configures the guest, for a pod with a network; does no I/O. What the
        caller configured is kept. A gateway and name servers are left out where the guest must not reach them, as with
        ``interface.config.restrict``. By default it returns ``interface``. Only with Capability NETWORK.
        """
        return interface

    async def forwards(self) -> tuple[PortForward, ...]:
        """Return the pod's forwarded ports, each with its port of the host. Only with Capability NETWORK.

        Called once after :meth:`start` if the pod's network has forwards. Raises HypervisorError; NotSupportedError by
        default.
        """
        raise unsupported("hypervisor", self, "forward ports")

    async def kind(self, timeout: float) -> str:
        """Return a name for all that this VM must have in common with a template, to be a clone of it. No I/O on it.

        Called after the devices are added and before prepare. VMs of one kind differ only in what is a pod's own:
        names, paths, sockets, forwarded ports, MAC address and disks. The name is of letters and digits, 64 at most; it
        changes with each file that the VM is made of, and with what the host's CPUs can do. "" for a VM that cannot be
        a clone. Raises ConfigError, HypervisorError; NotSupportedError by default. Only with Capability TEMPLATES.
        """
        raise unsupported("hypervisor", self, "clone a VM")

    def use_template(self, directory: Path, new: bool) -> None:
        """Let prepare make a clone of the template in ``directory``, or with ``new`` a VM to be saved there.

        Called before prepare; does no I/O. The core keeps the files in a directory to which only this user has access.
        A clone does not write there, even if its guest has taken over the process of the VM. Its guest goes on where
        that of the template was saved, with the template's MAC address. Prepare raises HypervisorError for a template
        that cannot be used, and leaves nothing; the core then makes another object, without it. Only with Capability
        TEMPLATES.
        """
        raise unsupported("hypervisor", self, "clone a VM")

    async def save_template(self, timeout: float) -> None:
        """Save a VM as the template that :meth:`use_template` named. Only with Capability TEMPLATES.

        Called on a VM that runs, whose agent waits for a host and has no connection. The core calls :meth:`stop` next.
        Raises HypervisorError, VMTimeoutError; NotSupportedError by default.
        """
        raise unsupported("hypervisor", self, "save a VM as a template")

    async def discard(self, timeout: float) -> None:
        """End and remove this pod's VM, which an earlier process made. Only with Capability DISCARD.

        Called on a new object, made without ``saved``, which has no VM and gets none: before a start or by a new
        supervisor when an earlier start was interrupted, and by a forced delete of a pod that did not stop. The driver
        finds the VM by ``PodContext.uuid``, and all else that prepare makes outside of ``run_dir``; that there is
        nothing is no error. In a forced delete no supervisor exists, and a failure is logged: the pod is deleted.
        Without the capability the core kills the processes whose working directory is the run directory and which have
        the UUID as an argument. Raises HypervisorError when the VM has not ended; NotSupportedError by default.
        """
        raise unsupported("hypervisor", self, "find a VM that an earlier process made")

    @abstractmethod
    def identity(self) -> ProcessIdentity | None:
        """Return the VM's process; None before prepare, and for a hypervisor without one.

        Called after prepare, and in a process that takes over the VM. Does no I/O.
        """

    @abstractmethod
    def save(self) -> Mapping[str, object]:
        """Return a JSON-able mapping from which the driver's create hook makes an object for the same VM.

        Called after prepare, attach and detach, and committed to disk. Does no I/O.
        """

    def console_tail(self) -> str:
        """Return the last lines of the guest's console, at most about ten. Called for error messages. May be empty."""
        return ""

    async def write_console(self, data: bytes, timeout: float) -> None:
        """Write to the guest's console what a person types there. Only with Capability CONSOLE.

        Called on a VM that runs. What the guest prints goes to the log of its console. Raises HypervisorError if the
        guest does not take it in time; NotSupportedError by default.
        """
        raise unsupported("hypervisor", self, "write to a guest's console")

    @property
    def acceleration(self) -> str:
        """Return how the VM executes code: "kvm", "tcg", "none"... Read after prepare; status shows it."""
        return "none"

    @property
    def isolation(self) -> str:
        """Return what isolates the VM from the host: "hardware" or "none". Read after prepare; status shows it."""
        return "none"

    @property
    def jail(self) -> str:
        """Return how the VM's process is confined on the host. Read after prepare; status shows it.

        "full": it has users and namespaces of its own and sees no file of the host but those that it needs.
        "namespaces": the same, but it has the ids of this process.
        "landlock": it is a user of the host, and limited to such files. "none": neither.
        """
        return "none"

    @property
    def jail_missing(self) -> Sequence[str]:
        """Return one sentence for each reason why the jail is not "full". Read after prepare; status shows them."""
        return ()

    def user_namespace(self) -> Path | None:
        """Return a file that names the user namespace of the VM's process, None if that has the ids of this process.

        Called before a directory is bound for a container, from prepare on; the core then binds it with the owners
        translated to the ids of that namespace. Does no I/O.
        """
        return None

    async def aclose(self) -> None:  # noqa: B027 - nothing to release is a good default
        """Release this object's sockets and tasks; the VM runs on. Called before the owning process ends."""
