"""The XML of a domain, libvirt's word for a VM, made from the pod and its devices. Pure: does no I/O."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from xml.etree import ElementTree

from vc_core.driver import (
    Boot,
    Channel,
    Device,
    HypervisorConfig,
    NetworkMode,
    PodContext,
    SharedDirectory,
)
from vc_core.errors import ConfigError
from vc_hypervisor_libvirt import network
from vc_hypervisor_libvirt.config import LibvirtConfig
from vc_hypervisor_libvirt.devices import text

#: The program that the daemon runs as the emulator; see README.md.
EMULATOR = Path(__file__).with_name("emulator")

#: Files in the run directory: QEMU's pid, and the key that the daemon gives to QEMU.
PID_FILE, KEY_FILE = "qemu.pid", "master-key.aes"

#: The console among the sockets; no channel has an id like this.
CONSOLE = ""

#: MiB and virtual CPUs of a pod that asks for none.
_MEMORY, _VCPUS = 512, 1

#: Bytes of the kernel's command line (COMMAND_LINE_SIZE of Linux' arch/x86, less the NUL).
_COMMAND_LINE_MAX = 2047

#: The first parameters of every guest; of two equal ones the kernel takes the last, so others override them. A panic
#: ends the VM at once, by a reset, at which QEMU exits; the others save time under emulation.
_PARAMS = (
    *("console=ttyS0", "quiet", "panic=-1", "reboot=t"),
    *("tsc=reliable", "no_timer_check", "noreplace-smp", "cryptomgr.notests", "rcupdate.rcu_expedited=1"),
)

#: Parameters that select the program of pid 1. Callers may give them only with a kernel and image of their own.
_BOOT_KEYS = frozenset({"init", "rdinit", "root"})

#: Printable ASCII without white space, quotes and backslash: what the kernel reads as one word.
_WORD = re.compile(r"[!#-&(-\[\]-~]+", re.ASCII)

#: The namespace of what libvirt passes on to QEMU as it is (its page "QEMU command-line passthrough").
_QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"

#: The first slot of the machine's bus for devices; libvirt keeps the first for a display.
_FIRST_SLOT = 2


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk in its place, a SCSI target. JSON-able."""

    target: int
    path: str
    read_only: bool
    block: bool  #: a block device, not a file

    def xml(self) -> str:
        """Return the element of libvirt's, for ``attach-device`` and ``detach-device``."""
        return ElementTree.tostring(self.element(), encoding="unicode")

    def element(self) -> ElementTree.Element:
        """Return the element in a domain. The format is fixed, never probed."""
        return _disk(
            self.path,
            self.read_only,
            self.block,
            _element("target", dev=disk_name(self.target), bus="scsi"),
            _element("address", type="drive", controller=0, bus=0, target=self.target, unit=0),
        )


def disk_name(target: int) -> str:
    """Return libvirt's name of the disk of a SCSI target: sda to sdz, sdaa..., as Linux names disks."""
    name, number = "", target + 1
    while number:
        number, letter = divmod(number - 1, 26)
        name = chr(ord("a") + letter) + name
    return f"sd{name}"


def xml(
    pod: PodContext,
    config: LibvirtConfig,
    devices: Sequence[Device],
    sockets: Mapping[str, str],
    disks: Iterable[Disk],
) -> str:
    """Return the domain of a pod's VM.

    ``sockets``: by CONSOLE and the ids of channels, where the daemon makes the socket of each. ``disks``: the
    BlockDevices, each in its place. Name and UUID of the domain are those of the pod, by which ``discard`` finds it.
    Raises ConfigError for a value that cannot be in a domain.
    """
    boot = pod.boot
    assert boot is not None, "the core resolves what a new VM boots"
    slots = iter(range(_FIRST_SLOT, 31))
    kernel = [
        _element("type", "hvm", arch="x86_64", machine="q35"),
        _element("kernel", text("kernel", str(boot.kernel))),
        *([_element("initrd", text("image", str(boot.image)))] if boot.image_is_initramfs else []),
        _element("cmdline", command_line(boot.params)),
    ]
    virtual = [
        _element("emulator", str(EMULATOR)),
        _element("controller", type="usb", model="none"),
        _element("controller", _address(slots), type="virtio-serial", index=0),
        _element("controller", _address(slots), type="scsi", index=0, model="virtio-scsi"),
        _element("rng", _element("backend", "/dev/urandom", model="random"), _address(slots), model="virtio"),
        _element("memballoon", model="none"),
        _element("serial", _element("source", mode="bind", path=sockets[CONSOLE]), type="unix"),
        *_image(boot, slots),
        *chain.from_iterable(_device(device, sockets, slots) for device in devices),
        *(disk.element() for disk in disks),
    ]
    mode = {"mode": "host-passthrough"} if config.type == "kvm" else {"mode": "maximum"}
    # QEMU emulates a fast ``rep movsb`` (ERMS) byte by byte; a kernel that does not see it copies twice as fast.
    slow = [] if config.type == "kvm" else [_element("feature", policy="disable", name="erms")]
    whole = _element(
        "domain",
        _element("name", f"vc-{pod.uuid}"),
        _element("uuid", pod.uuid),
        _element("title", pod.id),
        _element("memory", str(pod.resources.memory or _MEMORY), unit="MiB", dumpCore="off"),
        _element("vcpu", str(pod.resources.vcpus or _VCPUS)),
        _element("os", *kernel),
        _element("features", _element("acpi"), _element("vmport", state="off"), _element("smm", state="off")),
        _element("cpu", *slow, **mode),
        *(_element(f"on_{event}", "destroy") for event in ("poweroff", "reboot", "crash")),
        _element("devices", *virtual),
        _passthrough(pod, devices, slots),
        type=config.type,
    )
    ElementTree.register_namespace("qemu", _QEMU)
    return ElementTree.tostring(whole, encoding="unicode")


def disk_names(domain: str) -> set[str]:
    """Return libvirt's names of the disks that a domain has, from its XML."""
    found = ElementTree.fromstring(domain).findall("./devices/disk/target")
    return {target.get("dev", "") for target in found}


def check_caller_params(config: HypervisorConfig) -> None:
    """Refuse kernel parameters of the caller that would boot a program other than the agent. Raises ConfigError."""
    for param in config.kernel_params:
        key = _word(str(param)).partition("=")[0]
        if key in _BOOT_KEYS and not config.kernel_path:
            raise ConfigError(
                f"kernel parameter {key!r} cannot be set for a built guest; give kernel_path and image_path too"
            )


def command_line(params: Iterable[str]) -> str:
    """Return the kernel's command line: this driver's parameters, then ``params``. Raises ConfigError."""
    line = " ".join(map(_word, (*_PARAMS, *params)))
    if len(line) > _COMMAND_LINE_MAX:
        raise ConfigError(
            f"the kernel parameters have {len(line)} bytes together; {_COMMAND_LINE_MAX} at most: omit some"
        )
    return line


def _word(param: str) -> str:
    if not _WORD.fullmatch(param):
        raise ConfigError(
            f"kernel parameter {param!r} is not valid: give printable ASCII without spaces, quotes and backslash"
        )
    return param


def _device(device: Device, sockets: Mapping[str, str], slots: Iterator[int]) -> Iterator[ElementTree.Element]:
    if isinstance(device, Channel):
        source = _element("source", mode="bind", path=sockets[device.id])
        yield _element("channel", source, _element("target", type="virtio", name=device.name), type="unix")
    elif isinstance(device, SharedDirectory):
        # In a read-only share the guest sees the host's owners, modes and links ("squash" is QEMU's model "none"). In a
        # writable one QEMU keeps them in extended attributes, so that the guest cannot make a set-user-id program.
        access = {"accessmode": "squash" if device.read_only else "mapped", "multidevs": "remap"}
        parts = [_element("source", dir=str(device.host_path)), _element("target", dir=device.tag)]
        yield _element("filesystem", *parts, *_read_only(device.read_only), _address(slots), type="mount", **access)
    elif device is network.interface([device]) and device.config.mode is NetworkMode.TAP:
        target = _element("target", dev=text("network device", device.config.device), managed="no")
        parts = [target, _element("mac", address=device.mac), _element("model", type="virtio")]
        yield _element("interface", *parts, _element("rom", enabled="no"), _address(slots), type="ethernet")


def _image(boot: Boot, slots: Iterator[int]) -> Iterator[ElementTree.Element]:
    """Yield the image that is a disk: vda in the guest."""
    if not boot.image_is_initramfs:
        place = (_element("target", dev="vda", bus="virtio"), _address(slots))
        yield _disk(text("image", str(boot.image)), True, False, *place)


def _disk(path: str, read_only: bool, block: bool, *place: ElementTree.Element) -> ElementTree.Element:
    source = {"dev": path} if block else {"file": path}
    driver = _element("driver", name="qemu", type="raw")
    kind = "block" if block else "file"
    return _element(
        "disk", driver, _element("source", **source), *place, *_read_only(read_only), type=kind, device="disk"
    )


def _read_only(read_only: bool) -> list[ElementTree.Element]:
    return [_element("readonly")] if read_only else []


def _address(slots: Iterator[int]) -> ElementTree.Element:
    """Return the next place on the machine's bus, where libvirt would put a bridge before each device."""
    return _element("address", type="pci", domain=0, bus=0, slot=next(slots), function=0)


def _passthrough(pod: PodContext, devices: Sequence[Device], slots: Iterator[int]) -> ElementTree.Element:
    """Return what goes to QEMU as it is, after libvirt's own arguments, and its environment."""
    arguments = [
        *("-pidfile", PID_FILE),
        # Without this QEMU would wait for the daemon to end it, also while no daemon runs.
        *("-action", "shutdown=poweroff,reboot=shutdown"),
        *network.arguments(devices, slots),
    ]
    environment = {
        # Without a supervisor, as in tests, the namespace of this process is that of the pod.
        "VC_MOUNT_NAMESPACE": str(pod.mount_namespace or f"/proc/{os.getpid()}/ns/mnt"),
        "VC_RUN_DIR": text("run directory", str(pod.run_dir)),
        "VC_KEY": KEY_FILE,
    }
    return _element(
        f"{{{_QEMU}}}commandline",
        *(_element(f"{{{_QEMU}}}arg", value=value) for value in arguments),
        *(_element(f"{{{_QEMU}}}env", name=name, value=value) for name, value in environment.items()),
    )


def _element(tag: str, *parts: str | ElementTree.Element, **attributes: object) -> ElementTree.Element:
    made = ElementTree.Element(tag, {key: str(value) for key, value in attributes.items()})
    for part in parts:
        if isinstance(part, str):
            made.text = part
        else:
            made.append(part)
    return made
