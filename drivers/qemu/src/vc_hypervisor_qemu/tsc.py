"""Measures the rate of an emulated guest's time stamp counter, for a parameter of its kernel.

Without the parameter a kernel measures that rate against an older timer. On a busy host this fails: by one part in a
thousand (seen on q35), or completely where the PIT is the only such timer, as on a microvm; the kernel then hangs
without a message. The guest's counter is that of the host (``cpu_get_ticks`` in QEMU's softmmu/cpu-timers.c), whose
rate can be measured here in 5 ms to a few parts in a million.
"""

from __future__ import annotations

import ctypes
import mmap
import time
from collections.abc import Callable

from vc_core.driver import HypervisorConfig
from vc_core.errors import VMStartError
from vc_hypervisor_qemu.config import QemuConfig

#: kHz with ``-icount``, which makes the guest's counter count nanoseconds (``icount_get`` in accel/tcg of QEMU).
ICOUNT_RATE = 1_000_000

#: Nanoseconds between the two readings, and the number of tries for each.
_SPAN, _TRIES = 5_000_000, 8

#: A function that returns the counter: rdtsc; shl rdx, 32; or rax, rdx; ret. Neither Python nor libc reads it.
_READ_COUNTER = bytes.fromhex("0f31 48c1e220 4809d0 c3")


def kernel_params(qemu: QemuConfig, config: HypervisorConfig, accelerator: str) -> tuple[str, ...]:
    """Return the kernel parameters with the rate; none under KVM, whose guests read the host's clock.

    Called before each VM is made. If the rate cannot be measured here, the guest's kernel measures it itself.
    Raises VMStartError for a microvm, where it cannot do that.
    """
    if accelerator == "kvm":
        return ()
    if any(param.key.lstrip("-") == "icount" for param in config.hypervisor_params):
        return (f"tsc_early_khz={ICOUNT_RATE}",)
    try:
        return (f"tsc_early_khz={measure()}",)
    except OSError as error:
        if qemu.machine != "microvm":
            return ()
        raise VMStartError(
            f"machine microvm cannot be emulated here, because this host's time stamp counter cannot be read: {error}; "
            "use machine q35"
        ) from error


def measure() -> int:
    """Return the rate of this host's counter in kHz, after 5 ms. Raises OSError if memory cannot be made executable."""
    with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as page:
        page.write(_READ_COUNTER)
        counter = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
        end, end_ticks = begin, begin_ticks = _read(counter)
        while end - begin < _SPAN:
            end, end_ticks = _read(counter)
    return round((end_ticks - begin_ticks) * 1_000_000 / (end - begin))


def _read(counter: Callable[[], int]) -> tuple[float, int]:
    """Return one moment in nanoseconds and in ticks: of several tries the one that took the shortest time."""
    tries = []
    for _ in range(_TRIES):
        before, ticks, after = time.monotonic_ns(), counter(), time.monotonic_ns()
        tries.append((after - before, (before + after) / 2, ticks))
    _, moment, ticks = min(tries)
    return moment, ticks
