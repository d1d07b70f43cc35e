"""Build hook: compiles ``preload/ptrace.c`` to ``src/vc_hypervisor_uml/ptrace.so``, on x86-64 alone."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-s", "-Wl,--build-id=none")


class PreloadHook(BuildHookInterface[BuilderConfig]):
    """Compiles the library and puts it into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before hatchling collects files; ``version`` is "standard" or "editable"."""
        if platform.machine() == "x86_64":  # on other machines the driver refuses to work
            build(Path(self.root))
            build_data["pure_python"] = False
            build_data["tag"] = "py3-none-manylinux_2_34_x86_64"  # dlsym is in libc since glibc 2.34


def build(root: Path) -> None:
    """Compile the library. Raises RuntimeError with what to do."""
    if shutil.which("gcc") is None:
        raise RuntimeError(
            "gcc is missing, and with it the preloaded library: install the Debian packages gcc libc6-dev"
        )
    library = root / "src/vc_hypervisor_uml/ptrace.so"
    fresh = library.with_name(f"ptrace.so.{os.getpid()}")
    try:
        subprocess.run(["gcc", *FLAGS, "-o", str(fresh), str(root / "preload/ptrace.c")], check=True)
        fresh.replace(library)
    except subprocess.CalledProcessError as error:
        raise RuntimeError("gcc could not compile the preloaded library, see its messages above") from error
    finally:
        fresh.unlink(missing_ok=True)
