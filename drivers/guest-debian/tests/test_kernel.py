"""Extracting the kernel from the image of Debian's package."""

import bz2
import gzip
import lzma
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from made_up_debian import BOOTED_KERNEL, PVH_KERNEL, bz_image, elf, note, packed

from vc_core.errors import GuestError
from vc_guest_debian import tools
from vc_guest_debian.kernel import bootable_kernel

SIZE = struct.pack("<I", len(PVH_KERNEL))


def piped(*argv: str) -> bytes:
    return subprocess.run(argv, input=PVH_KERNEL, capture_output=True, check=True).stdout


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(lambda: packed(PVH_KERNEL), id="xz, as Debian 12"),
        pytest.param(lambda: piped("zstd", "-q", "-19") + SIZE, id="zstd, as Debian 13"),
        pytest.param(lambda: gzip.compress(PVH_KERNEL), id="gzip, whose own trailer is the size"),
        pytest.param(lambda: bz2.compress(PVH_KERNEL) + SIZE, id="bzip2"),
        pytest.param(lambda: lzma.compress(PVH_KERNEL, format=lzma.FORMAT_ALONE) + SIZE, id="lzma"),
        pytest.param(lambda: piped("lz4", "-l", "-9", "-c") + SIZE, id="lz4"),
    ],
)
def test_a_compressed_kernel_with_a_pvh_entry_is_decompressed(payload: Callable[[], bytes]) -> None:
    assert bootable_kernel(bz_image(payload())) == BOOTED_KERNEL


def test_zeros_at_the_end_of_a_segment_are_left_out_and_its_size_in_memory_stays() -> None:
    notes = note(b"Xen\0", 18, bytes(8))
    start = 64 + 2 * 56
    headers = struct.pack("<IIQQQQQQ", 4, 4, start, 0, 0, len(notes), len(notes), 4)
    headers += struct.pack("<IIQQQQQQ", 1, 7, start + len(notes), 0, 1 << 20, 9003, 9500, 4)
    image = bytearray(elf(b""))[:64] + headers + notes + b"abc" + bytes(9000) + b"sections"
    struct.pack_into("<H", image, 56, 2)
    struct.pack_into("<Q", image, 40, len(image) - 8)
    kernel = bootable_kernel(bz_image(packed(bytes(image))))
    assert kernel.endswith(notes + b"abc")
    assert struct.unpack_from("<QQ", kernel, 64 + 56 + 32) == (3, 9500)
    assert struct.unpack_from("<Q", kernel, 40) == (0,)


def test_a_kernel_without_a_pvh_entry_is_not_changed() -> None:
    image = bz_image(packed(elf(note(b"Xen\0", 17, b"other"))))
    assert bootable_kernel(image) == image


def test_an_image_that_is_not_a_bzimage_is_not_changed() -> None:
    image = b"MZ" + bytes(4000)
    assert bootable_kernel(image) == image


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(bz_image(packed(PVH_KERNEL))[:2200], id="cut short"),
        pytest.param(bz_image(packed(PVH_KERNEL)[:-4] + b"size"), id="unpacks to another size"),
        pytest.param(bz_image(b"\xfd7zXZ\0 and nonsense after it"), id="cannot be unpacked"),
    ],
)
def test_a_damaged_kernel_is_an_error_that_says_so(image: bytes) -> None:
    with pytest.raises(GuestError, match="damaged"):
        bootable_kernel(image)


def test_a_missing_tool_is_an_error_that_names_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    image = bz_image(piped("zstd", "-q") + SIZE)
    monkeypatch.setattr(tools, "_SYSTEM_PATH", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GuestError, match="install the Debian package zstd"):
        bootable_kernel(image)
