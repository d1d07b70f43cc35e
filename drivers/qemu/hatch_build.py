"""Build hook: compiles the launcher in ``launcher/`` to ``src/vc_hypervisor_qemu/jail/launcher``.

Runs for wheels and editable installs. The binary is static: it depends on the machine but on no libc. One that is there
already is kept when ``launcher.sha256`` beside it holds the hashes of the same sources and of this binary.
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
    *("-std=c11", "-D_GNU_SOURCE", "-Os", "-static"),
    *("-Wall", "-Wextra", "-Wshadow", "-Werror"),
    *("-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections,--build-id=none", "-s"),
)


class LauncherHook(BuildHookInterface[BuilderConfig]):
    """Compiles the launcher and puts it into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before hatchling collects files; ``version`` is "standard" or "editable"."""
        build_launcher(Path(self.root))
        machine = platform.machine()
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-manylinux_2_17_{machine}.musllinux_1_1_{machine}"


def build_launcher(root: Path) -> Path:
    """Compile the launcher unless it is there; return its path. Raises RuntimeError with what to do."""
    sources = sorted((root / "launcher").glob("*.[ch]"))
    binary = root / "src" / "vc_hypervisor_qemu" / "jail" / "launcher"
    stamp = binary.with_name("launcher.sha256")
    compiler, package = COMPILER
    wanted = _fingerprint(sources)
    if binary.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == _stamp(wanted, binary):
        return binary
    if shutil.which(compiler) is None:
        raise RuntimeError(f"{compiler} is missing, and with it the launcher: install the Debian package {package}")
    fresh = binary.with_name(f"launcher.{os.getpid()}")
    try:
        command = [compiler, *FLAGS, "-o", str(fresh), *(str(source) for source in sources if source.suffix == ".c")]
        subprocess.run(command, check=True)
        fresh.replace(binary)
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"{compiler} could not compile the launcher, see its messages above") from error
    finally:
        fresh.unlink(missing_ok=True)
    stamp.write_text(_stamp(wanted, binary), encoding="utf-8")
    return binary


def _stamp(sources: str, binary: Path) -> str:
    return f"{sources} sources\n{hashlib.sha256(binary.read_bytes()).hexdigest()} {binary.name}\n"


def _fingerprint(sources: list[Path]) -> str:
    """Return a hash of all that decides how the binary turns out, but for the compiler's version."""
    digest = hashlib.sha256(repr((platform.machine(), COMPILER, FLAGS)).encode())
    for source in sources:
        digest.update(f"\0{source.name}\0".encode() + source.read_bytes())
    return digest.hexdigest()
