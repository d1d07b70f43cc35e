"""Whether a kernel has room for the registers of this host's CPU, and the library to preload where it has not.

User Mode Linux copies the extended registers of the guest's processes (their XSAVE areas) with ptrace(2). Before Linux
6.13 it has room for a fixed number of bytes, and on a CPU with AMX it cannot set them: PTRACE_SETREGSET fails with
EFAULT, and the guest's first process dies. The preloaded library completes the area; see ``preload/ptrace.c``.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

from vc_core.errors import ConfigError

#: Bytes of registers that a kernel before 6.13 has room for: HOST_FP_SIZE of Linux' arch/x86/um/user-offsets.c. CPUs
#: without AMX need no more: what precedes AMX in the standard format of XSAVE ends there (Intel SDM 1, 13.4).
ROOM = 2696

#: The first version that asks the host for the size ("um: switch to regset API and depend on XSTATE").
_SIZED_AT_RUN_TIME = (6, 13)

#: The most bytes of a signal frame besides the registers: get_sigframe_size of Linux' arch/x86/kernel/signal.c adds 520
#: to 960, depending on its configuration.
_FRAME_BESIDES = 1024

#: The type of the auxiliary vector's entry that holds the size of a signal frame (<linux/auxvec.h>), since Linux 5.14.
_AT_MINSIGSTKSZ = 51

_AUXILIARY = Path("/proc/self/auxv")
_ENTRY = struct.Struct("=QQ")

_VERSION = re.compile(rb"Linux version (\d+)\.(\d+)")

#: In the name of the dynamic loader, which a program that is linked dynamically holds.
_LOADER = b"/ld-linux"

#: Compiled by the wheel's build hook.
LIBRARY = Path(__file__).with_name("ptrace.so")

#: What separates the names in LD_PRELOAD (ld.so(8)).
_SEPARATORS = re.compile(r"[\s:]")


def area() -> int:
    """Return how many bytes of registers a process of this host has at least; above :data:`ROOM` only with AMX."""
    return area_in(_AUXILIARY.read_bytes())


def area_in(auxiliary: bytes) -> int:
    """Return :func:`area` by the auxiliary vector of a process (getauxval(3)).

    0 if that does not hold the size of a signal frame: such a host is older than Linux 5.14, and does not enable AMX
    before 5.16.
    """
    vector = dict(_ENTRY.iter_unpack(auxiliary[: len(auxiliary) // _ENTRY.size * _ENTRY.size]))
    return max(0, int(vector.get(_AT_MINSIGSTKSZ, 0)) - _FRAME_BESIDES)


def preload(kernel: Path, area: int) -> Path | None:
    """Return the library that ``kernel`` needs with an area of that many bytes; None if it needs no library.

    Called by the probe and before a VM is made. Raises ConfigError when the kernel cannot work, OSError.
    """
    if area <= ROOM:
        return None
    program = kernel.read_bytes()
    version = _VERSION.search(program)
    if version is not None and (int(version[1]), int(version[2])) >= _SIZED_AT_RUN_TIME:
        return None
    fault = f"kernel {str(kernel)!r} cannot set the registers of this host's CPU, which has AMX"
    if not LIBRARY.is_file() or _SEPARATORS.search(str(LIBRARY)):
        raise ConfigError(
            f"{fault}, and the library for that, {str(LIBRARY)!r}, cannot be preloaded; give Linux 6.13 or newer"
        )
    if program.startswith(b"\x7fELF") and _LOADER not in program:
        raise ConfigError(f"{fault}, and preloads no library, because it is static; give Linux 6.13 or newer")
    return LIBRARY
