"""Finds the kernel and the modules of Debian's package user-mode-linux on this host."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

from vc_core.errors import ConfigError
from vc_hypervisor_uml import registers

#: The machine (``uname -m``) that the package's kernel runs on.
_MACHINE = "x86_64"

#: The package's modules, in a directory for each version of the kernel.
MODULES = Path("/usr/lib/uml/modules")


def problems() -> list[str]:
    """Return one sentence for each reason why the drivers cannot work on this host. Starts no process."""
    try:
        find_kernel()
    except ConfigError as error:
        return [str(error)]
    return []


def find_kernel() -> Path:
    """Return the kernel's absolute path. Raises ConfigError when it is missing or does not work on this host."""
    _check_machine()
    found = shutil.which("linux.uml")
    if found is None:
        raise ConfigError("linux.uml is not installed; on Debian: apt install user-mode-linux")
    kernel = Path(found).absolute()
    library(kernel)
    return kernel


def library(kernel: Path) -> Path | None:
    """Return the library to preload for a kernel on this host; None if it needs no library.

    Raises ConfigError when the kernel does not work on this host; see registers.py.
    """
    _check_machine()
    try:
        return registers.preload(kernel, registers.area())
    except OSError as error:
        raise ConfigError(f"kernel {str(kernel)!r} cannot be read: {error}") from error


def _check_machine() -> None:
    """Refuse any machine but the one whose system calls seccomp.py lists. Raises ConfigError."""
    if (machine := platform.machine()) != _MACHINE:
        raise ConfigError(f"hypervisor uml works on {_MACHINE} only, but this host is {machine}; use hypervisor qemu")
