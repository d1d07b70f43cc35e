"""QEMU's argument vector, made from the pod, its devices and its disks. Pure: does no I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING

from vc_core.driver import Boot, Channel, Device, Param, PodContext, Resources, SharedDirectory, frozen
from vc_core.errors import ConfigError
from vc_hypervisor_qemu import disks, kernel, network
from vc_hypervisor_qemu.arguments import MODERN, options, text
from vc_hypervisor_qemu.config import DEFAULT_VCPUS, SCSI, TRANSLATED_MAX, QemuConfig
from vc_hypervisor_qemu.disks import Disk

if TYPE_CHECKING:
    from vc_hypervisor_qemu.template import Template

#: MiB of a pod that asks for none. Debian's kernel with an initramfs boots with 128 MiB.
DEFAULT_MEMORY = 512

#: Names of the sockets that every VM has; each channel has one more.
MONITOR, CONSOLE = "monitor", "console"

#: The options of QEMU that a caller may give, and the form of their values: those that name no file, socket, process or
#: device of the host. Other values of these could: with ``-global`` a property ``romfile`` shows any file to the guest,
#: and the ``rrfile`` of ``-icount`` overwrites any.
HYPERVISOR_PARAMS = {
    "-global": ("DRIVER.PROPERTY=VALUE, all of letters, digits, '-' and '_'", r"[\w-]+\.[\w-]+=[\w-]+"),
    "-icount": ("[shift=]N|auto[,align=on|off][,sleep=on|off]", r"(shift=)?(\d+|auto)(,(align|sleep)=(on|off))*"),
    "-overcommit": ("mem-lock=on|off and cpu-pm=on|off", r"(,?(mem-lock|cpu-pm)=(on|off))+"),
    "-rtc": ("base=, clock= and driftfix=", r"(,?(base|clock|driftfix)=[\w:-]+)+"),
}

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)

_NIL_UUID = "00000000-0000-0000-0000-000000000000"

#: Filters for system calls that QEMU does not need once it runs (qemu(1), -sandbox).
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"

#: All that QEMU can emulate, except for the feature bit of a fast ``rep movsb`` (ERMS). QEMU emulates that byte by
#: byte, and a kernel that sees the bit copies by this instruction alone; without the bit, copies in the guest take less
#: than half the time.
_TCG_CPU = "max,-erms"

#: SMM is for secure boot, the VMware port for its tools; no guest uses them, USB, or a core dump of its memory.
_PC_OPTIONS = dict.fromkeys(("usb", "vmport", "smm", "dump-guest-core"), "off")

#: Options of each machine type. A microvm gets PCI, so that its devices are those of the others and need no other
#: kernel modules.
_MACHINE_OPTIONS = {
    "q35": _PC_OPTIONS,
    "pc": _PC_OPTIONS,
    "microvm": {**dict.fromkeys(("pcie", "rtc"), "on"), "dump-guest-core": "off"},
}


@frozen
class Request:
    """All that the argument vector depends on.

    ``kernel_params``: what this driver has measured for the kernel (``tsc``). ``sockets`` maps MONITOR, CONSOLE and
    each channel's ``socket_name`` to descriptors of listening sockets, and ``taps`` are descriptors of the pod's tap
    devices; QEMU inherits them. ``disks``: the BlockDevices, each in its place, with the descriptor of its file.
    ``paths``: where QEMU finds kernel, image, shared directories and the memory of a template, by their paths on the
    host; others it finds there. ``template``: where the VM's memory is, if it is saved as a template or is a clone.
    """

    pod: PodContext
    config: QemuConfig
    binary: Path
    accelerator: str
    kernel_params: Sequence[str]
    devices: Sequence[Device]
    sockets: Mapping[str, int]
    taps: Sequence[int] = ()
    disks: Sequence[tuple[Disk, int]] = ()
    paths: Mapping[Path, Path] = field(default_factory=dict)
    template: Template | None = None

    def path(self, source: Path) -> Path:
        """Return the path at which QEMU finds a file or directory of the host."""
        return self.paths.get(source, source)


def argv(request: Request) -> list[str]:
    """Return the argument vector of the pod's QEMU, which makes a VM whose CPUs are stopped.

    It contains the pod's id, as ``guest=ID`` after ``-name``, for people, and its UUID, after ``-uuid``, by which the
    core finds the process. Raises ConfigError for a value that cannot be in an argument.
    """
    pod, boot = request.pod, request.pod.boot
    assert boot is not None, "the core resolves what a new VM boots"
    if not _UUID.fullmatch(pod.uuid):
        raise ConfigError(f"the uuid {pod.uuid!r} of pod {pod.id!r} is not one")
    return [
        str(request.binary),
        *("-name", options("", {"guest": pod.id, "debug-threads": "on"})),
        *("-uuid", pod.uuid),
        *("-no-user-config", "-nodefaults", "-no-reboot"),
        *("-display", "none"),
        *("-sandbox", SANDBOX),
        *machine(request.config, request.accelerator),
        *_memory(request),
        *("-smp", str(pod.resources.vcpus or DEFAULT_VCPUS)),
        "-S",
        *("-msg", "timestamp=on"),
        *_socket(request, MONITOR),
        *("-mon", options("", {"chardev": MONITOR, "mode": "control"})),
        *_socket(request, CONSOLE),
        *("-serial", f"chardev:{CONSOLE}"),
        *_basics(request),
        *_image(boot, request.path(boot.image)),
        *_devices(request),
        *_disks(request),
        *network.arguments(request.devices, request.taps),
        *_hypervisor_params(pod.hypervisor_config.hypervisor_params),
        *("-kernel", text("kernel", request.path(boot.kernel))),
        *("-append", kernel.command_line((*request.kernel_params, *boot.params))),
    ]


def _memory(request: Request) -> Iterator[str]:
    """Return the arguments for the memory; a clone waits with stopped CPUs for the state of its template."""
    size = f"{memory_size(request.pod.resources)}M"
    yield from ("-m", size)
    template = request.template
    if template is None:
        return
    # Mapped shared, it is the file that is saved; mapped privately, the clone has its own copy of what it changes.
    values = {"id": "memory", "size": size, "mem-path": str(request.path(template.memory))}
    yield from ("-object", options("memory-backend-file", {**values, "share": "on" if template.new else "off"}))
    yield from ("-machine", options("", {"memory-backend": "memory"}))
    if not template.new:
        yield from ("-incoming", "defer")


def memory_size(resources: Resources) -> int:
    """Return the memory of a VM in MiB."""
    return resources.memory or DEFAULT_MEMORY


def machine(config: QemuConfig, accelerator: str) -> list[str]:
    """Return the options that select the machine type, and how its CPUs execute code."""
    limits = {"tb-size": str(TRANSLATED_MAX)} if accelerator == "tcg" else {}
    return [
        "-machine",
        options(config.machine, _MACHINE_OPTIONS[config.machine]),
        "-accel",
        options(accelerator, limits),
        "-cpu",
        config.cpu or ("host" if accelerator == "kvm" else _TCG_CPU),
    ]


def socket_name(channel: Channel) -> str:
    """Return the name of a channel's socket, unique among all of a VM's."""
    return f"channel.{channel.id}"


def _basics(request: Request) -> Iterator[str]:
    yield from ("-object", options("rng-random", {"id": "rng", "filename": "/dev/urandom"}))
    yield from ("-device", options("virtio-rng-pci", {"rng": "rng", **MODERN}))
    if request.config.machine != "microvm":  # which has neither of these
        # The guest sees no UUID, because all clones of a VM would share it.
        yield from ("-smbios", options("", {"type": "1", "uuid": _NIL_UUID}))
        # Another generation id in each QEMU: a kernel that finds it changed has been cloned (vmgenid of Linux).
        yield from ("-device", options("vmgenid", {"guid": "auto"}))
    if any(isinstance(device, Channel) for device in request.devices):
        yield from ("-device", options("virtio-serial-pci", _transport(request)))


def _transport(request: Request) -> dict[str, str]:
    """Return how the guest reaches a device that it asks and waits for: the agent's channel, a shared directory.

    By default a guest's notification wakes QEMU's main thread (``ioeventfd``), so that the CPU can go on meanwhile.
    Emulated, the thread of the CPU handles it as fast itself, and a round trip needs one wake-up of a thread less.
    """
    return {**MODERN, "ioeventfd": "off"} if request.accelerator == "tcg" else MODERN


def _devices(request: Request) -> Iterator[str]:
    for number, device in enumerate(request.devices):
        if isinstance(device, Channel):
            name = socket_name(device)
            yield from _socket(request, name)
            yield from ("-device", options("virtserialport", {"chardev": name, "name": device.name}))
        elif isinstance(device, SharedDirectory):
            share = f"share{number}"
            yield from ("-fsdev", options("local", {"id": share, **_share(device, request)}))
            values = {"fsdev": share, "mount_tag": device.tag, **_transport(request)}
            yield from ("-device", options("virtio-9p-pci", values))


def _share(device: SharedDirectory, request: Request) -> dict[str, str]:
    # In a read-only share the guest sees the host's owners, modes and links. In a writable one QEMU keeps them in
    # extended attributes, so that the guest cannot make a set-user-id program, device or link on the host. Root file
    # systems are used on the host as the guest leaves them: there the jail refuses such programs and devices.
    if device.read_only:
        access = {"security_model": "none", "readonly": "on"}
    else:
        access = {"security_model": "passthrough" if device.owners else "mapped-xattr"}
    # Inode numbers stay unique when a share spans file systems.
    return {"path": str(request.path(device.host_path)), **access, "multidevs": "remap"}


def _image(boot: Boot, path: Path) -> Iterator[str]:
    """Return the arguments for the image; if it is a disk, it precedes all others, so that it is vda in the guest."""
    image = text("image", path)
    if boot.image_is_initramfs:
        yield from ("-initrd", image)
    else:
        device = {"driver": "virtio-blk-pci", "drive": "image", **MODERN}
        yield from _disk(disks.backend("image", "file", image, read_only=True), device)


def _disks(request: Request) -> Iterator[str]:
    if request.config.disk_bus == SCSI:
        yield from ("-device", json.dumps(disks.CONTROLLER))
    for disk, descriptor in request.disks:
        yield from ("-add-fd", options("", {"fd": str(descriptor), "set": str(disk.descriptors), "opaque": disk.name}))
        yield from _disk(disk.backend, disk.device)


def _disk(backend: Mapping[str, object], device: Mapping[str, object]) -> Iterator[str]:
    yield from ("-blockdev", json.dumps(backend), "-device", json.dumps(device))


def _socket(request: Request, name: str) -> list[str]:
    values = {"id": name, "fd": str(request.sockets[name]), "server": "on", "wait": "off"}
    return ["-chardev", options("socket", values)]


def check_hypervisor_params(params: Sequence[Param]) -> None:
    """Refuse options that callers may not give to QEMU. Raises ConfigError."""
    list(_hypervisor_params(params))


def _hypervisor_params(params: Sequence[Param]) -> Iterator[str]:
    for param in params:
        option = param.key if param.key.startswith("-") else f"-{param.key}"
        if option not in HYPERVISOR_PARAMS:
            raise ConfigError(
                f"hypervisor parameter {param.key!r} is not allowed; it can be {', '.join(HYPERVISOR_PARAMS)}"
            )
        form, pattern = HYPERVISOR_PARAMS[option]
        if not re.fullmatch(pattern, param.value, re.ASCII):
            raise ConfigError(
                f"value {param.value!r} of hypervisor parameter {option} is not allowed; it can be {form}"
            )
        yield from (option, param.value)
