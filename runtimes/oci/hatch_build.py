"""Build hook: compiles ``shim/shim.c`` to ``src/vc_runtime/shim``.

Runs for wheels and editable installs. The binary is static: it depends on the machine but on no libc. One that is there
already is kept when ``shim.sha256`` beside it holds the hashes of the same source and of this binary.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

#: The compiler, and its Debian package.
COMPILER = ("musl-gcc", "musl-tools")
FLAGS = (
    *("-std=c11", "-D_GNU_SOURCE", "-Os", "-static", "-fstack-protector-strong"),
    *("-Wall", "-Wextra", "-Wshadow", "-Werror"),
    *("-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections,--build-id=none", "-s"),
)


class ShimHook(BuildHookInterface[BuilderConfig]):
    """Compiles the program and puts it into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before hatchling collects files; ``version`` is "standard" or "editable"."""
        build(Path(self.root))
        machine = platform.machine()
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-manylinux_2_17_{machine}.musllinux_1_1_{machine}"


def build(root: Path) -> Path:
    """Compile the program unless it is there; return its path. Raises RuntimeError with what to do."""
    source, binary = root / "shim/shim.c", root / "src/vc_runtime/shim"
    stamp = binary.with_name("shim.sha256")
    compiler, package = COMPILER
    wanted = hashlib.sha256(repr((platform.machine(), COMPILER, FLAGS)).encode() + source.read_bytes()).hexdigest()
    if binary.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == _stamp(wanted, binary):
        return binary
    if shutil.which(compiler) is None:
        raise RuntimeError(f"{compiler} is missing, and with it {binary.name}: install the Debian package {package}")
    fresh = binary.with_name(f"shim.{os.getpid()}")
    try:
        subprocess.run([compiler, *FLAGS, "-o", str(fresh), str(source)], check=True)
        fresh.replace(binary)
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"{compiler} could not compile {source}, see its messages above") from error
    finally:
        fresh.unlink(missing_ok=True)
    stamp.write_text(_stamp(wanted, binary), encoding="utf-8")
    return binary


def _stamp(source: str, binary: Path) -> str:
    return f"{source} source\n{hashlib.sha256(binary.read_bytes()).hexdigest()} {binary.name}\n"
