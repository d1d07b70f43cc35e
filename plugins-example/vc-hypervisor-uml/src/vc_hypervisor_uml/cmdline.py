"""The kernel's command line, for User Mode Linux' side of the host and for the guest. Pure: does no I/O."""

from __future__ import annotations

import itertools
import os
import re
import string
from collections.abc import Mapping, Sequence
from pathlib import Path

from vc_core.driver import BlockDevice, Channel, Device, HypervisorConfig, PodContext, SharedDirectory
from vc_core.errors import ConfigError

#: MiB of a pod without a value for memory.
DEFAULT_MEMORY = 512

#: Name of the directory below the run directory where the kernel puts a pid file and the socket of its management
#: console.
UMID = "uml"

#: Bytes: COMMAND_LINE_SIZE of arch/um in Linux.
COMMAND_LINE_MAX = 4095

#: How many a VM can have: half of its serial lines (NR_PORTS), and disks (MAX_DEV of Linux' arch/um/drivers).
_DEVICES_MAX = {Channel: 32, BlockDevice: 16}

#: Parameters that the program itself reads (it lists them with ``--help``), and those that select the program of pid 1.
#: With them a caller could reach files and processes of the host.
_NOT_FOR_CALLERS = re.compile(
    r"-.*|(ssl|ubd|udb|eth|vec).*|con(\d.*)?|iomem|mem|umid|uml_dir|initrd|console|mconsole|xterm|debug|hostfs"
    r"|fake_ide|nosysemu|tty_.*|virtio_uml\..*|init|rdinit|root(fstype|flags)?|vc\..*"
)

#: Characters that end a word or quote it on the kernel's command line.
_BREAKS = re.compile(r"""[\s"'\\\x00-\x1f\x7f]""")


def check_caller_params(config: HypervisorConfig) -> None:
    """Refuse parameters of the caller that User Mode Linux itself reads. Raises ConfigError."""
    for param in config.kernel_params:
        text = word("kernel parameter", str(param))
        key = text.partition("=")[0]
        if _NOT_FOR_CALLERS.fullmatch(key):
            raise ConfigError(f"kernel parameter {key!r} is not allowed: User Mode Linux reads it itself; omit it")
    if config.hypervisor_params:
        raise ConfigError("hypervisor uml has no hypervisor_params; omit them")


def check_device(device: Device, others: Sequence[Device]) -> None:
    """Refuse a device that a VM cannot have beside ``others``. Raises ConfigError."""
    if isinstance(device, Channel):
        word("channel", device.name)
        if device.host_path is not None:
            raise ConfigError(
                f"channel {device.name!r} has the path {str(device.host_path)!r}, but hypervisor uml makes no sockets "
                "in the file system; omit the path"
            )
    elif isinstance(device, SharedDirectory):
        word("mount tag", device.tag)
        word("shared directory", str(device.host_path))
        if "," in str(device.host_path):
            raise ConfigError(f"shared directory {str(device.host_path)!r} has a comma in its name; rename it")
    elif isinstance(device, BlockDevice):
        if re.search("[:,]", word("disk", str(device.host_path))):
            raise ConfigError(f"disk {str(device.host_path)!r} has a colon or comma in its name; rename it")
    else:
        raise ConfigError(f"hypervisor uml cannot give a {type(device).__name__} to a VM")
    for kind, most in _DEVICES_MAX.items():
        if isinstance(device, kind) and sum(isinstance(other, kind) for other in others) >= most:
            raise ConfigError(f"{device} is one device too many: a VM of hypervisor uml has {most} of the kind at most")


def disk_names(devices: Sequence[Device]) -> dict[str, str]:
    """Return the names of the disks' device files in the guest, by the disks' ids."""
    ids = [device.id for device in devices if isinstance(device, BlockDevice)]
    return {device_id: f"ubd{letter}" for device_id, letter in zip(ids, string.ascii_lowercase, strict=False)}


def argv(pod: PodContext, devices: Sequence[Device], lines: Mapping[str, Sequence[int]]) -> list[str]:
    """Return the argument vector of a pod's kernel, whose working directory is the pod's run directory.

    ``lines``: by the names of channels, the descriptors that the program inherits for the serial lines of each.
    It contains the pod's id, as ``vc.pod=ID``, for people, and its UUID, as ``vc.uuid=UUID``, by which the core finds
    the process. Raises ConfigError for a value that cannot be on a command line, and for too long a line.
    """
    assert pod.boot is not None, "the core resolves what a new VM boots"
    channels = [device for device in devices if isinstance(device, Channel)]
    disks = [device for device in devices if isinstance(device, BlockDevice)]
    words = [
        f"mem={pod.resources.memory or DEFAULT_MEMORY}M",
        f"umid={UMID}",
        "uml_dir=.",
        f"initrd={word('image', str(pod.boot.image))}",
        # A reboot ends the VM. The console is the standard output; the kernel opens no other consoles and lines.
        *("noreboot", "quiet", "con=null", "con0=null,fd:1", "ssl=null"),
        f"vc.uuid={pod.uuid}",
        f"vc.pod={pod.id}",
    ]
    ports = itertools.count()
    for channel in channels:
        numbered = {next(ports): descriptor for descriptor in lines[channel.name]}
        words += [f"ssl{port}=fd:{descriptor}" for port, descriptor in numbered.items()]
        words.append(f"vc.channel.{channel.name}=" + ",".join(f"/dev/ttyS{port}" for port in numbered))
    for number, disk in enumerate(disks):
        # "d": data; the kernel does not look for a copy-on-write header in its first bytes.
        words.append(f"ubd{number}{'r' if disk.read_only else ''}d={disk.host_path}")
    words += [*_shares(pod.run_dir, devices), *pod.boot.params]
    if len(line := " ".join(words)) > COMMAND_LINE_MAX:
        raise ConfigError(
            f"the kernel's command line has {len(line)} bytes; {COMMAND_LINE_MAX} at most: omit parameters or mounts"
        )
    return [str(pod.boot.kernel), *words]


def _shares(run_dir: Path, devices: Sequence[Device]) -> list[str]:
    """Return the parameters for shared directories. hostfs begins at the one directory that holds them all.

    A path below the run directory, where the program runs, is relative to it, so that the guest does not see the rest.
    """
    shares = {device.tag: device.host_path for device in devices if isinstance(device, SharedDirectory)}
    if not shares:
        return ["hostfs=none"]  # a directory that does not exist: the guest can mount nothing
    top = Path(os.path.commonpath(shares.values()))
    shown = top.relative_to(run_dir) if top.is_relative_to(run_dir) else top
    return [f"hostfs={shown}", *(f"vc.share.{tag}=hostfs:/{path.relative_to(top)}" for tag, path in shares.items())]


def word(what: str, text: str) -> str:
    """Return ``text`` as one word of the command line. Raises ConfigError if the kernel would read several words."""
    if not text or _BREAKS.search(text):
        raise ConfigError(
            f"{what} {text!r} cannot be on a kernel's command line; use no spaces, quotes and control characters"
        )
    return text
