"""What this host has: the programs and the daemon that the driver needs, and the resources that a pod asks for."""

from __future__ import annotations

import os
import platform
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from vc_core.driver import Boot, HypervisorConfig, Resources
from vc_core.errors import ConfigError, PrivilegeError
from vc_hypervisor_libvirt.config import URI_VARIABLE, LibvirtConfig

#: Programs, and the Debian packages that hold them.
_PROGRAMS = {
    "virsh": "libvirt-clients",
    "nsenter": "util-linux",
    "qemu-system-x86_64": "qemu-system-x86",
}

#: MiB. With less, no kernel of a distribution starts its init.
_MEMORY_MIN = 64
#: Virtual CPUs that a pod may have on any host; a larger number must not exceed four times the CPUs of the host.
_VCPUS_ANYWHERE = 8
#: Where the system's daemon listens; the first serves all drivers of libvirt, the second that of QEMU alone.
_SYSTEM_SOCKETS = (Path("/run/libvirt/libvirt-sock"), Path("/run/libvirt/virtqemud-sock"))

_NEEDS_ROOT = "hypervisor libvirt needs root, to run QEMU in the mount namespace of a pod"


def problems() -> list[str]:
    """Return one sentence for each reason why the driver cannot work on this host. Only looks at files."""
    if platform.machine() != "x86_64":
        return [f"hypervisor libvirt works on x86_64 only, but this host is {platform.machine()}; use another one"]
    missing = [
        f"{program} is not installed; on Debian: apt install {package}"
        for program, package in _PROGRAMS.items()
        if shutil.which(program) is None
    ]
    if missing:
        return missing
    if os.geteuid() != 0:
        return [_NEEDS_ROOT]
    uri = LibvirtConfig().daemon()
    if not any(path.is_socket() for path in _sockets(uri)):
        return [f"no libvirt daemon listens at {uri}; start libvirtd, or run vc-libvirtd and set {URI_VARIABLE}"]
    return []


def _sockets(uri: str) -> Sequence[Path]:
    """Return where the daemon of a URI can listen (libvirt's pages "Connection URIs" and "Daemons")."""
    given = parse_qs(urlsplit(uri).query).get("socket")
    return [Path(given[0])] if given else _SYSTEM_SOCKETS


def check_config(config: HypervisorConfig, resources: Resources) -> None:
    """Refuse what no VM of this driver can have. Called when a pod is created. Raises ConfigError."""
    if config.hypervisor_path:
        raise ConfigError("hypervisor libvirt runs the QEMU of its host; omit hypervisor_path")
    if config.hypervisor_params:
        raise ConfigError("hypervisor libvirt has no hypervisor_params; omit them")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (1024 * 1024)
    if resources.memory and not _MEMORY_MIN <= resources.memory <= memory:
        raise ConfigError(f"memory is {resources.memory} MiB; give {_MEMORY_MIN} to {memory} MiB, which this host has")
    most = max(_VCPUS_ANYWHERE, 4 * (os.cpu_count() or 1))
    if resources.vcpus > most:
        raise ConfigError(f"vcpus is {resources.vcpus}; on this host give {most} at most")


def check_user() -> None:
    """Refuse to start a VM as a plain user. Raises PrivilegeError."""
    if os.geteuid() != 0:
        raise PrivilegeError(f"{_NEEDS_ROOT}; this process runs as user {os.geteuid()}")


def check_boot(boot: Boot | None) -> Boot:
    """Return ``boot`` if its files can be read. Raises ConfigError."""
    if boot is None:
        raise ConfigError("hypervisor libvirt needs a kernel and an image to boot; give kernel_path and image_path")
    for what, path in (("kernel", boot.kernel), ("image", boot.image)):
        if not path.is_file() or not os.access(path, os.R_OK):
            raise ConfigError(f"{what} {str(path)!r} is not a file that can be read; give another")
        if path.stat().st_size == 0:
            raise ConfigError(f"{what} {str(path)!r} is empty; give another")
    return boot


def is_block_device(path: Path) -> bool:
    """Return whether a disk is a block device, and not a file. Raises ConfigError if it is neither."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise ConfigError(f"disk {str(path)!r} cannot be used: {error.strerror}") from error
    if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
        raise ConfigError(f"disk {str(path)!r} is neither a file nor a block device; give another")
    return stat.S_ISBLK(mode)
