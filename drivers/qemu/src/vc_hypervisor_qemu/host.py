"""Finds QEMU on this host, and checks the memory, CPUs, kernel, image and disks that a pod asks for."""

from __future__ import annotations

import errno
import math
import os
import platform
import shutil
import stat
import struct
from pathlib import Path

from vc_core.driver import BlockDevice, Boot, Resources, read_regular
from vc_core.errors import ConfigError

#: Architectures (``uname -m``) that this driver supports.
ARCHITECTURES = ("x86_64",)

#: MiB. With less, no kernel of a distribution starts its init.
MEMORY_MIN = 64

#: Virtual CPUs that a pod may have on any host; a larger number must not exceed four times the CPUs of the host.
VCPUS_ANYWHERE = 8

#: QEMU's block drivers for files and for block devices (qapi/block-core.json).
FILE, DEVICE = "file", "host_device"

#: First bytes of an ELF file, and the places of the Linux boot protocol's magic in a bzImage
#: (Documentation/arch/x86/boot.rst: 0x55AA at 0x1fe, "HdrS" at 0x202).
_ELF = b"\x7fELF"
_BOOT_FLAG, _HEADER = slice(0x1FE, 0x200), slice(0x202, 0x206)

#: Of a 64-bit ELF file (elf(5)): where the place, size and number of its program headers are; their type, address and
#: size in memory; the type of what is loaded; bytes in which the headers of a kernel lie.
_HEADERS, _SEGMENT, _LOADED, _ELF_HEAD = struct.Struct("<32xQ14xHH"), struct.Struct("<I20xQ8xQ"), 1, 4096

#: How often an initramfs must fit into the memory that the kernel leaves: as a file, and unpacked into a file system
#: that takes half of the rest at most (init/do_mounts.c, mm/shmem.c).
_INITRAMFS_TIMES = 3

#: The part of all memory in which the kernel describes its pages: 64 bytes for each of 4,096 (struct page, x86-64).
_PAGES_PART = 1 / 64


def problems() -> list[str]:
    """Return one sentence for each reason why the driver cannot work on this host. Starts no process."""
    machine = platform.machine()
    if machine not in ARCHITECTURES:
        return [f"hypervisor qemu supports {', '.join(ARCHITECTURES)}; this host is {machine}"]
    try:
        find_binary("")
    except ConfigError as error:
        return [str(error)]
    return []


def find_binary(given: str) -> Path:
    """Return the absolute path of QEMU: ``HypervisorConfig.hypervisor_path``, in PATH if that is a bare name or empty.

    Raises ConfigError when it is not installed, or is not QEMU for this host's architecture.
    """
    machine = platform.machine()
    if machine not in ARCHITECTURES:
        raise ConfigError(f"hypervisor qemu supports {', '.join(ARCHITECTURES)}; this host is {machine}")
    names = (f"qemu-system-{machine}", "qemu-kvm", "kvm")
    if given and Path(given).name not in names:
        raise ConfigError(f"hypervisor_path {given!r} is not QEMU for this host; its name must be {' or '.join(names)}")
    if "/" not in given:
        name = given or names[0]
        found = shutil.which(name)
        if found is None:
            raise ConfigError(f"{name} is not installed; on Debian: apt install qemu-system-x86")
        return Path(found).absolute()
    path = Path(given).absolute()
    if not path.is_file():
        raise ConfigError(f"hypervisor_path {given!r} does not exist or is not a file")
    if not os.access(path, os.X_OK):
        raise ConfigError(f"hypervisor_path {given!r} is not executable")
    return path


def check_resources(resources: Resources) -> None:
    """Refuse memory and CPUs that no VM on this host can have. Called when a pod is created. Raises ConfigError."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (1024 * 1024)
    if resources.memory and not MEMORY_MIN <= resources.memory <= memory:
        raise ConfigError(f"memory is {resources.memory} MiB; give {MEMORY_MIN} to {memory} MiB, which this host has")
    most = max(VCPUS_ANYWHERE, 4 * (os.cpu_count() or 1))
    if resources.vcpus > most:
        raise ConfigError(f"vcpus is {resources.vcpus}; on this host give {most} at most")


def check_boot(boot: Boot | None) -> Boot:
    """Return ``boot`` if QEMU can boot its kernel and image. Raises ConfigError."""
    if boot is None:
        raise ConfigError("hypervisor qemu needs a kernel and an image to boot")
    _head("image", boot.image, 1)
    head = _head("kernel", boot.kernel, _HEADER.stop)
    if not head.startswith(_ELF) and (head[_BOOT_FLAG], head[_HEADER]) != (b"\x55\xaa", b"HdrS"):
        raise ConfigError(f"kernel {str(boot.kernel)!r} is neither an ELF vmlinux nor a bzImage")
    return boot


def check_memory(boot: Boot, size: int) -> None:
    """Refuse ``size`` MiB of memory if the kernel cannot unpack its initramfs in them. Raises ConfigError.

    The VM would hang or panic. An ELF file shows what the kernel needs; a bzImage does not, because it is compressed.
    """
    if not boot.image_is_initramfs or any(param.startswith("root=") for param in boot.params):
        return
    used = _loaded_size(boot.kernel) + _INITRAMFS_TIMES * boot.image.stat().st_size
    needed = math.ceil(used / (1 - _PAGES_PART) / (1 << 20))
    if size < needed:
        raise ConfigError(f"memory is {size} MiB, in which this guest cannot boot; give {needed} MiB or more")


def _loaded_size(kernel: Path) -> int:
    """Return how many bytes of memory a kernel's ELF file is loaded into; 0 for another file."""
    head = _head("kernel", kernel, _ELF_HEAD)
    if not head.startswith(_ELF) or len(head) < _HEADERS.size:
        return 0
    place, size, count = _HEADERS.unpack_from(head)
    headers = range(place, min(place + size * count, len(head) - _SEGMENT.size + 1), size or 1)
    segments = [_SEGMENT.unpack_from(head, header) for header in headers]
    loaded = [(address, address + size) for kind, address, size in segments if kind == _LOADED]
    return max(end for _, end in loaded) - min(start for start, _ in loaded) if loaded else 0


def disk_driver(disk: BlockDevice) -> str:
    """Return QEMU's block driver for a disk's file. Raises ConfigError if it is neither a file nor a block device."""
    path = disk.host_path
    try:
        mode = disk.opened.stat().st_mode
    except OSError as error:
        raise ConfigError(f"disk {str(path)!r} cannot be used: {error.strerror}") from error
    if stat.S_ISREG(mode):
        return FILE
    if stat.S_ISBLK(mode):
        return DEVICE
    raise ConfigError(f"disk {str(path)!r} is neither a file nor a block device")


def open_disk(disk: BlockDevice, driver: str) -> int:
    """Return a descriptor of a disk's file, which must still be of the kind that ``driver`` is for. Raises ConfigError.

    What is checked is the open file, so nobody can replace it between the check and its use. A block device that QEMU
    writes to is claimed: as long as QEMU has it, the host cannot mount it or a part of it.
    """
    path = disk.host_path
    flags = os.O_RDONLY if disk.read_only else os.O_RDWR
    if driver == DEVICE and not disk.read_only:
        flags |= os.O_EXCL
    try:
        # O_NONBLOCK: a pipe that has replaced the file must not make this process wait. Files and disks ignore it.
        fd = os.open(disk.opened, flags | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise ConfigError(
                f"disk {str(path)!r} cannot be given to a guest, as the host uses it or a part of it; unmount it"
            ) from error
        raise ConfigError(f"disk {str(path)!r} cannot be opened: {error.strerror}") from error
    mode = os.fstat(fd).st_mode
    if driver != (FILE if stat.S_ISREG(mode) else DEVICE if stat.S_ISBLK(mode) else ""):
        os.close(fd)
        raise ConfigError(f"disk {str(path)!r} is not the file that it was a moment ago; leave it in its place")
    os.set_blocking(fd, True)
    return fd


def _head(what: str, path: Path, size: int) -> bytes:
    """Return the first bytes of a regular file. Raises ConfigError."""
    try:
        if not path.is_file():
            raise ConfigError(f"{what} {str(path)!r} does not exist or is not a regular file")
        head = read_regular(path, size, follow=True)
    except OSError as error:
        raise ConfigError(f"{what} {str(path)!r} cannot be read: {error.strerror}") from error
    if not head:
        raise ConfigError(f"{what} {str(path)!r} is empty")
    return head
