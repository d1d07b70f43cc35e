"""What Debian's package user-mode-linux installed on this host: a kernel that is a program, and its modules."""

from __future__ import annotations

import shutil
from pathlib import Path

from vc_core.errors import ConfigError

#: Where the package has modules, in a directory for the kernel's version.
MODULES = Path("/usr/lib/uml/modules")


def problems() -> list[str]:
    """Return one sentence for each thing that keeps the drivers from working on this host. Starts no process."""
    try:
        find_kernel()
    except ConfigError as error:
        return [str(error)]
    return []


def find_kernel() -> Path:
    """Return the kernel's absolute path. Raises ConfigError when there is none."""
    found = shutil.which("linux.uml")
    if found is None:
        raise ConfigError("linux.uml is not installed; on Debian: apt install user-mode-linux")
    return Path(found).absolute()
