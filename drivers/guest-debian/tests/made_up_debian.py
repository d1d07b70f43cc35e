"""A small Debian for the tests: real packages in a real repository; only the kernel is made up."""

from __future__ import annotations

import asyncio
import hashlib
import lzma
import shutil
import struct
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vc_core.driver import GuestImage, GuestPayload, GuestRequest
from vc_guest_debian.builder import DebianBuilder
from vc_guest_debian.config import DebianConfig

KERNEL = "1.2.3-4-amd64"

#: Made-up modules: where they are, the symbols that they export and import, and what their .modinfo says.
MODULES = {
    "kernel/virtio/virtio_ring": ("ring", "", ""),
    "kernel/virtio/virtio": ("bus", "ring", ""),
    "kernel/virtio/virtio_pci": ("", "bus ring", ""),
    "kernel/virtio/virtio-rng": ("", "bus", ""),
    "kernel/fs/share": ("", "bus", "softdep=pre: checksum"),
    "kernel/lib/checksum": ("", "", ""),
}
BUILT_IN = "kernel/lib/within"


def elf(notes: bytes) -> bytes:
    """Return the beginning of a 64-bit ELF file with one PT_NOTE segment."""
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    return header + struct.pack("<IIQQQQQQ", 4, 4, 120, 0, 0, len(notes), len(notes), 4) + notes


def note(name: bytes, kind: int, data: bytes) -> bytes:
    """Return one ELF note."""
    return struct.pack("<III", len(name), len(data), kind) + name + bytes(-len(name) % 4) + data + bytes(-len(data) % 4)


#: A kernel that can be entered by PVH, whose note is not the first, and what is left of it without zeros at its end.
BOOTED_KERNEL = elf(note(b"Linux\0", 18, b"no") + note(b"Xen\0", 6, b"linux\0") + note(b"Xen\0", 18, bytes(8)))
PVH_KERNEL = BOOTED_KERNEL + bytes(5000)


def bz_image(payload: bytes) -> bytes:
    """Return a bzImage, boot protocol 2.15, of which only what matters is there."""
    image = bytearray(4 * 512 + 100)
    image[0x1F1] = 3
    image[0x202:0x208] = b"HdrS" + struct.pack("<H", 0x20F)
    image[0x248:0x250] = struct.pack("<II", 100, len(payload))
    return bytes(image) + payload + b"what follows the payload"


def packed(kernel: bytes) -> bytes:
    """Return a kernel packed as Debian 12 packs it."""
    return lzma.compress(kernel, check=lzma.CHECK_CRC32) + struct.pack("<I", len(kernel))


def in_section(section: str, name: str, text: str) -> str:
    """Return C source for a string in a section of its own."""
    return f'__attribute__((section("{section}"), used)) static const char {name}[] = "{text}";'


def write(root: Path, files: Mapping[str, bytes | str]) -> None:
    """Write files below a directory; a string is the target of a symbolic link."""
    for path, data in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(data, str):
            target.symlink_to(data)
        else:
            target.write_bytes(data)


def kernel_files(module_files: Mapping[str, bytes], image: bytes | None = None) -> dict[str, bytes | str]:
    """Return what the made-up kernel's package holds: modules are packed, as in Debian 13."""
    modules = f"lib/modules/{KERNEL}"
    return {
        f"boot/vmlinuz-{KERNEL}": bz_image(packed(PVH_KERNEL)) if image is None else image,
        f"{modules}/modules.order": b"",
        f"{modules}/modules.builtin": f"{BUILT_IN}.ko\n".encode(),
        **{f"{modules}/{path}.xz": lzma.compress(data, check=lzma.CHECK_CRC32) for path, data in module_files.items()},
    }


@dataclass
class Repository:
    """A repository of packages in a directory."""

    directory: Path
    stanzas: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, version: str, files: Mapping[str, bytes | str], depends: str = "") -> Path:
        """Build a package, publish it in place of any older version, and return its file."""
        root = self.directory / "root"
        write(root, files)
        control = f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: none <none@example.org>\n"
        control += f"Description: made up\n{f'Depends: {depends}' if depends else ''}\n".rstrip("\n") + "\n"
        write(root, {"DEBIAN/control": control.encode()})
        package = self.directory / f"{name}_{version.replace(':', '%3a')}_amd64.deb"
        subprocess.run(
            ["dpkg-deb", "-Zgzip", "--root-owner-group", "-b", root, package], check=True, capture_output=True
        )
        shutil.rmtree(root)
        sha256 = hashlib.sha256(package.read_bytes()).hexdigest()
        self.stanzas[name] = f"{control}Filename: ./{package.name}\nSize: {package.stat().st_size}\nSHA256: {sha256}\n"
        (self.directory / "Packages").write_text("\n".join(self.stanzas.values()), encoding="utf-8")
        return package

    def add_kernel(self, version: str, files: Mapping[str, bytes | str]) -> Path:
        """Publish a kernel package and the package that depends on it, and return the former's file."""
        package = self.add(f"linux-image-{KERNEL}", version, files, depends="linux-base")
        self.add("linux-base", "4.9", {"usr/share/linux-base": b""})
        self.add("linux-image-amd64", version, {}, depends=f"linux-image-{KERNEL} (= {version})")
        return package


class Phrases(list[str]):
    """Progress, noted."""

    def __call__(self, phrase: str, fraction: float | None) -> None:
        assert fraction is None or 0 <= fraction <= 1
        self.append(phrase)


@dataclass
class Maker:
    """Asks a builder for guests of one agent, with one cache."""

    payload: GuestPayload
    cache_dir: Path
    config: DebianConfig = field(default_factory=DebianConfig)

    def request(self, **changes: object) -> GuestRequest:
        """Return the request, with fields of the payload changed."""
        names = ("files", "modules", "later", "packages", "kernel_params")
        values = {name: getattr(self.payload, name) for name in names}
        return GuestRequest("tester", GuestPayload(**{**values, **changes}), "x86_64", self.cache_dir)

    def find(self, **changes: object) -> GuestImage | None:
        """Find a guest."""
        return asyncio.run(DebianBuilder(self.config).find(self.request(**changes)))

    def build(self, progress: Callable[[str, float | None], None] | None = None, **changes: object) -> GuestImage:
        """Build a guest."""
        return asyncio.run(DebianBuilder(self.config).build(self.request(**changes), progress or Phrases()))

    def left_overs(self) -> list[str]:
        """Return the names of working directories in the cache."""
        return [path.name for path in self.cache_dir.glob("debian/work-*")]


def unpack(archive: Path, target: Path) -> Path:
    """Unpack an initramfs with the system's own cpio."""
    target.mkdir()
    with archive.open("rb") as file:
        subprocess.run(["cpio", "--extract", "--quiet", "--no-absolute-filenames"], stdin=file, cwd=target, check=True)
    return target


def listing(archive: Path) -> Sequence[str]:
    """Return the listing of an initramfs by the system's own cpio, a line for each file."""
    with archive.open("rb") as file:
        argv = ["cpio", "--list", "--verbose", "--numeric-uid-gid", "--quiet"]
        listed = subprocess.run(argv, stdin=file, check=True, capture_output=True)
    return listed.stdout.decode(errors="surrogateescape").splitlines()
