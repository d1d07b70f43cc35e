"""The kernel's command line: the parameters that a QEMU guest needs, and those that callers may add."""

from __future__ import annotations

import re
from collections.abc import Iterable

from vc_core.driver import HypervisorConfig, Resources
from vc_core.errors import ConfigError
from vc_hypervisor_qemu.config import DEFAULT_VCPUS, QemuConfig

#: Bytes. Measured on x86_64: with 2047 a kernel boots, with 2048 it hangs without a message (COMMAND_LINE_SIZE of
#: Linux' arch/x86 counts the final NUL).
COMMAND_LINE_MAX = 2047

#: The first parameters of every guest; of two equal ones the kernel takes the last, so others override them. They are
#: described in Linux' Documentation/admin-guide/kernel-parameters.txt. A panic ends the VM at once, by a reset, at
#: which QEMU exits; the others save about 0.4 s of 2 s under emulation: no self-tests of ciphers, no waiting for grace
#: periods, no calibration of a clock whose rate QEMU provides, no patching for one CPU.
DEFAULT_PARAMS = (
    "console=ttyS0",
    "quiet",
    "panic=-1",
    "reboot=t",
    "tsc=reliable",
    "no_timer_check",
    "noreplace-smp",
    "cryptomgr.notests",
    "rcupdate.rcu_expedited=1",
)

#: Parameters that select the program of pid 1. Callers may give them only with a kernel and image of their own.
_BOOT_KEYS = frozenset({"init", "rdinit", "root"})

#: Machines with an HPET, the other timer that can wake a CPU.
_WITH_HPET = frozenset({"q35", "pc"})

_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII)
#: Printable ASCII without white space, quotes and backslash.
_VALUE = re.compile(r"[!#-&(-\[\]-~]*", re.ASCII)


def check_caller_params(config: HypervisorConfig) -> None:
    """Refuse kernel parameters of the caller that would boot a program other than the pod's agent.

    Called when a pod is created, before any I/O. Raises ConfigError.
    """
    for param in config.kernel_params:
        word = "=".join(filter(None, (param.key, param.value)))
        _check(word)
        key = word.partition("=")[0]
        if key in _BOOT_KEYS and not config.kernel_path:
            raise ConfigError(
                f"kernel parameter {key!r} cannot be set for a built guest; give kernel_path and image_path too"
            )


def emulation_params(
    config: QemuConfig, resources: Resources, accelerator: str, for_template: bool = False
) -> tuple[str, ...]:
    """Return the kernel parameters that make a guest faster under emulation; none for another accelerator.

    A kernel avoids jumps whose target a processor could guess, and fences what it could execute too early. QEMU's
    translation has neither those jumps nor those fences, so they protect nothing; a system call and a start of a
    program take 7 % less without them. It also makes a scheduling group for each session, of which the scheduler takes
    no notice within the control group of a container, and adds up in each group for how long tasks wait
    (/proc/pressure); without both a command takes 3 % less.

    With one CPU, the kernel counts for 0.1 s how fast the CPU's own timer is (``calibrate_APIC_clock`` of Linux),
    unless it may not use that timer. Then it uses the HPET, which takes three accesses to set in the place of one. The
    kernel of a template counts once for all clones, ``for_template``; a command in them takes 3 % less. With several
    CPUs one timer for all would be slower. Under KVM the CPU's timer needs no calibration.
    """
    if accelerator != "tcg":
        return ()
    single = (resources.vcpus or DEFAULT_VCPUS) == 1 and config.machine in _WITH_HPET
    timer = ("noapictimer",) if single and not for_template else ()
    return ("mitigations=off", "noautogroup", "psi=0", *timer)


def command_line(params: Iterable[str]) -> str:
    """Return the kernel's command line: this driver's parameters, then ``params`` in their order.

    Raises ConfigError for a parameter that the kernel would read as another or as several, and for too long a line.
    """
    words = [*DEFAULT_PARAMS, *params]
    for word in words:
        _check(word)
    line = " ".join(words)
    if len(line) > COMMAND_LINE_MAX:
        raise ConfigError(
            f"the kernel parameters have {len(line)} bytes together; {COMMAND_LINE_MAX} at most: omit some"
        )
    return line


def _check(word: str) -> None:
    key, _, value = word.partition("=")
    if not _KEY.fullmatch(key):
        raise ConfigError(
            f"kernel parameter {word!r} is not valid: its name has letters, digits, '_', '.' and '-' only"
        )
    if not _VALUE.fullmatch(value):
        raise ConfigError(
            f"kernel parameter {word!r} is not valid: its value is printable ASCII without spaces, quotes and backslash"
        )
