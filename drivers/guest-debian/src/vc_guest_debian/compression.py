"""Decompresses Debian's kernels and modules."""

from __future__ import annotations

import bz2
import gzip
import lzma
import subprocess
from collections.abc import Callable

from vc_core.errors import GuestError
from vc_guest_debian.tools import require_tool

_TOOL_TIMEOUT = 120.0  #: seconds; one call takes about one


def _with_tool(name: str) -> Callable[[bytes], bytes]:
    def unpack(data: bytes) -> bytes:
        tool = require_tool(name)
        return subprocess.run([tool, "-dc"], input=data, capture_output=True, check=True, timeout=_TOOL_TIMEOUT).stdout

    return unpack


#: First bytes of each format (Linux, lib/decompress.c, compressed_formats), and the function that decompresses it.
_FORMATS: dict[bytes, Callable[[bytes], bytes]] = {
    b"\x1f\x8b": gzip.decompress,
    b"BZh": bz2.decompress,
    b"\x5d\x00\x00": lzma.decompress,
    b"\xfd7zXZ\x00": lzma.decompress,
    b"\x02\x21\x4c\x18": _with_tool("lz4"),
    b"\x28\xb5\x2f\xfd": _with_tool("zstd"),
}


def decompress(data: bytes, what: str) -> bytes:
    """Return ``data`` decompressed, or unchanged if it is in none of the formats. ``what``: its name in errors.

    Blocks: call it in a thread. Raises GuestError when it is damaged or the tool for its format is missing.
    """
    for magic, unpack in _FORMATS.items():
        if data.startswith(magic):
            try:
                return unpack(data)
            except (OSError, EOFError, lzma.LZMAError, ValueError, subprocess.SubprocessError) as error:
                raise GuestError(f"cannot unpack {what}, it is damaged: {error}") from error
    return data
