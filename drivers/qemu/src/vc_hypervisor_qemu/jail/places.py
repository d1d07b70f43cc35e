"""The files and directories of the host that QEMU sees in its jail, and where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from vc_core.driver import Boot, Device, PodContext, SharedDirectory, frozen

if TYPE_CHECKING:
    from vc_hypervisor_qemu.template import Template

#: What a program of the host is linked with, whatever the architecture and distribution.
_LIBRARIES = ("/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libx32", "/lib", "/lib32", "/lib64", "/libx32")
#: Directories of programs, for a QEMU that is a script.
_PROGRAMS = ("/usr/bin", "/usr/sbin", "/bin", "/sbin")
#: Where the dynamic loader finds libraries in other directories (ld.so(8)).
_LOADER_CACHE = "/etc/ld.so.cache"

#: Directories of QEMU's firmware, below ``share`` of its prefix or of /usr (``qemu-system-x86_64 -L help``).
_FIRMWARE = ("qemu", "qemu-kvm", "seabios", "seavgabios", "ipxe", "ipxe.efi")

#: Package managers that keep each program and library in a directory of its own.
_STORES = ("/nix/store", "/gnu/store")

#: Devices that QEMU opens. The last one is there only for a VM that it accelerates.
_DEVICES = ("/dev/null", "/dev/urandom")
KVM = "/dev/kvm"

#: The library that is preloaded into the QEMU of a clone, and into one that has a share with ``owners``; compiled when
#: this distribution is built (hatch_build.py).
PRELOAD = Path(__file__).with_name("preloaded.so")

_ELF = b"\x7fELF"


class Access(StrEnum):
    """What QEMU may do at a place. The values are the launcher's options (``launcher/order.c``)."""

    PROGRAM = "--program"  #: read and execute; owners are the host's, so only what every user may read is readable
    READ = "--read"  #: read, with the rights that root has on the host
    READ_ALL = "--read-all"  #: the same, with what is mounted below it
    WRITE_ALL = "--write-all"  #: read and write, with the rights that root has on the host and what is mounted below it
    READ_TOP = "--read-top"  #: read a directory of mount points; what the core mounts there is translated by itself
    WRITE_TOP = "--write-top"  #: the same, and write to what is mounted there
    DEVICE = "--device"  #: a device, made in the jail
    CHECK = "--check"  #: not visible; only checked that it could be a place with READ later


_WRITES = (Access.WRITE_ALL, Access.WRITE_TOP)


@frozen
class Place:
    """One file or directory of the host, and its path in the jail; with CHECK its name, and where it is open."""

    access: Access
    source: str
    target: str


@frozen
class View:
    """All that QEMU sees of the host."""

    places: Sequence[Place]
    links: Mapping[str, str] = field(default_factory=dict)  #: targets of symbolic links, by the paths of these

    def path(self, source: Path) -> Path:
        """Return the path in the jail of a kernel, image or shared directory."""
        return next((Path(one.target) for one in self.places if one.source == str(source)), source)

    @property
    def sources(self) -> list[Path]:
        """The kernel, the image, the shared directories and what a template has, on the host."""
        return [Path(one.source) for one in self.places if one.target.startswith(("/boot/", "/shares/", "/template/"))]

    @property
    def writes(self) -> bool:
        """Whether QEMU may write to any shared directory."""
        return any(one.access in _WRITES and one.target.startswith("/shares/") for one in self.places)


def view_of(
    pod: PodContext,
    binary: Path,
    boot: Boot,
    devices: Sequence[Device],
    accelerator: str,
    template: Template | None = None,
) -> View:
    """Return what the QEMU of a pod must see. Called when its VM is prepared. Raises OSError."""
    places, links = _system(binary)
    places += (Place(Access.CHECK, str(name), str(opened)) for name, opened in pod.sources.items())
    places.append(Place(Access.READ, str(boot.kernel), "/boot/kernel"))
    places.append(Place(Access.READ, str(boot.image), "/boot/image"))
    cores = (pod.share_dir, pod.writable_dir, pod.roots_dir)
    for number, device in enumerate(one for one in devices if isinstance(one, SharedDirectory)):
        # The core binds into its directories later; others may have mounts below them.
        if device.host_path in cores:
            access = Access.READ_TOP if device.read_only else Access.WRITE_TOP
        else:
            access = Access.READ_ALL if device.read_only else Access.WRITE_ALL
        places.append(Place(access, str(device.host_path), f"/shares/{number}"))
    if template is not None:
        access = Access.WRITE_ALL if template.new else Access.READ
        places.append(Place(access, str(template.memory), "/template/memory"))
    if (template is not None and not template.new) or has_owners(devices):
        places.append(Place(Access.PROGRAM, str(PRELOAD), "/template/preloaded.so"))
    names = (*_DEVICES, KVM) if accelerator == "kvm" else _DEVICES
    places += (Place(Access.DEVICE, name, name) for name in names)
    return View(places, links)


def has_owners(devices: Sequence[Device]) -> bool:
    """Return whether what a guest makes in one of these directories has the owners and modes that it gives it."""
    return any(isinstance(one, SharedDirectory) and one.owners for one in devices)


def view_without_pod(binary: Path, checked: Sequence[Path]) -> View:
    """Return what a QEMU without a guest must see, to try the jail; ``checked``: places that READ is tried for.

    Raises OSError.
    """
    places, links = _system(binary)
    places += (Place(Access.CHECK, str(source), str(source)) for source in checked)
    places += (Place(Access.DEVICE, name, name) for name in _DEVICES)
    return View(places, links)


def _system(binary: Path) -> tuple[list[Place], dict[str, str]]:
    """Return the places and links of a program with its libraries and data files. Raises OSError."""
    real = binary.resolve()
    with real.open("rb") as file:
        is_script = file.read(len(_ELF)) != _ELF
    wanted = [*_LIBRARIES, *(_PROGRAMS if is_script else ())]
    for prefix in {real.parent.parent, Path("/usr")}:
        wanted += (str(prefix / "share" / name) for name in _FIRMWARE)
        if prefix != Path("/usr") and prefix.name:
            wanted += (str(prefix / name) for name in ("lib", "lib64", "libexec"))
    wanted += (store for store in _STORES if real.is_relative_to(store))
    wanted += (_LOADER_CACHE, str(real))
    places: list[str] = []
    links: dict[str, str] = {}
    for name in dict.fromkeys(wanted):
        if Path(name).is_symlink():
            links[name] = str(Path(name).readlink())
        elif Path(name).exists():
            places.append(name)
    if str(binary) != str(real) and not _below(str(binary), [*places, *links]):
        links[str(binary)] = str(real)
    outermost = [name for name in places if not _below(name, places)]
    return [Place(Access.PROGRAM, name, name) for name in outermost], links


def _below(path: str, directories: Sequence[str]) -> bool:
    return any(path.startswith(f"{one}/") for one in directories)


def arguments(view: View) -> Iterator[str]:
    """Return the launcher's arguments for all that QEMU sees."""
    for one in view.places:
        yield from (one.access, one.source, one.target)
    for name, target in view.links.items():
        yield from ("--link", target, name)
