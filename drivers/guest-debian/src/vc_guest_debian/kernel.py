"""Extracts from Debian's kernel image the ELF file that QEMU can boot directly.

A bzImage starts in real mode and decompresses itself, which is slow under emulation. It contains the kernel proper as a
compressed ELF file, which QEMU and other hypervisors start in protected mode by the PVH protocol.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from vc_core.errors import GuestError
from vc_guest_debian.compression import decompress

# Linux, Documentation/arch/x86/boot.rst: the setup header.
_SETUP_SECTS = 0x1F1  #: u8, length of the real mode code in sectors, less one; 0 means 4
_MAGIC = (0x202, b"HdrS")
_VERSION = 0x206  #: u16
_PAYLOAD = 0x248  #: u32 offset from the end of the real mode code, u32 length; from version 2.08 on
_SECTOR = 512

# elf(5): types of segments, the size of a program header, and where a field is in that or in the header of the file.
_PT_LOAD, _PT_NOTE = 1, 4
_P_HEADER_SIZE, _P_FILESZ = 56, 32
_E_SHOFF, _E_SHENTSIZE = 40, 58

#: Xen, xen/include/public/elfnote.h, XEN_ELFNOTE_PHYS32_ENTRY: the entry point of the PVH protocol.
_PVH_NOTE = (b"Xen\0", 18)


def bootable_kernel(image: bytes) -> bytes:
    """Return the ELF kernel in a bzImage if it has a PVH entry point, else the image unchanged.

    Blocks for about a second: call it in a thread. Raises GuestError when the compressed kernel is damaged.
    """
    if image[_MAGIC[0] :].startswith(_MAGIC[1]) and struct.unpack_from("<H", image, _VERSION)[0] >= 0x208:
        kernel = _payload(image)
        if _has_pvh_entry(kernel):
            return _without_zeros(kernel)
    return image


def _payload(image: bytes) -> bytes:
    """Return the decompressed payload of a bzImage. Raises GuestError."""
    offset, length = struct.unpack_from("<II", image, _PAYLOAD)
    start = ((image[_SETUP_SECTS] or 4) + 1) * _SECTOR + offset
    packed = image[start : start + length]
    # The last four bytes are the decompressed size: part of gzip, and appended by the kernel's build to other formats.
    kernel = decompress(packed if packed.startswith(b"\x1f\x8b") else packed[:-4], "the kernel")
    if len(packed) != length or struct.unpack("<I", packed[-4:])[0] != len(kernel):
        raise GuestError("the kernel image is damaged: its size is not the one in its header")
    return kernel


def _has_pvh_entry(kernel: bytes) -> bool:
    """Return whether ``kernel`` is a 64-bit little-endian ELF file with a PVH note (elf(5))."""
    if not kernel.startswith(b"\x7fELF\x02\x01"):
        return False
    for header in _program_headers(kernel):
        kind, _, offset, _, _, length = struct.unpack_from("<IIQQQQ", kernel, header)
        if kind == _PT_NOTE and _PVH_NOTE in _notes(kernel[offset : offset + length]):
            return True
    return False


def _without_zeros(kernel: bytes) -> bytes:
    """Return the ELF file without the zeros at the ends of its segments, and without its section headers.

    Debian's kernel has 24 MB of them, its uninitialised data. A loader sets what a segment has in memory and not in the
    file to zero (elf(5), p_memsz), so QEMU reads and copies 24 MB less at each boot.
    """
    shorter, end = bytearray(kernel), 0
    for header in _program_headers(kernel):
        kind, _, offset, _, _, length = struct.unpack_from("<IIQQQQ", kernel, header)
        if kind == _PT_LOAD:
            length = len(kernel[offset : offset + length].rstrip(b"\0"))
            struct.pack_into("<Q", shorter, header + _P_FILESZ, length)
        end = max(end, header + _P_HEADER_SIZE, offset + length)
    struct.pack_into("<Q", shorter, _E_SHOFF, 0)
    struct.pack_into("<HHH", shorter, _E_SHENTSIZE, 0, 0, 0)  # and their number, and the one with their names
    return bytes(shorter[:end])


def _program_headers(kernel: bytes) -> Iterator[int]:
    """Return where in the file each program header is."""
    (table,) = struct.unpack_from("<Q", kernel, 32)
    size, count = struct.unpack_from("<HH", kernel, 54)
    yield from range(table, table + size * count, size)


def _notes(segment: bytes) -> list[tuple[bytes, int]]:
    """Return name and type of each note of a PT_NOTE segment."""
    notes = []
    at = 0
    while at + 12 <= len(segment):
        name_size, data_size, kind = struct.unpack_from("<III", segment, at)
        notes.append((segment[at + 12 : at + 12 + name_size], kind))
        at += 12 + (name_size + 3 & ~3) + (data_size + 3 & ~3)
    return notes
