"""Build hook: compiles the launcher in ``launcher/`` and the library in ``preload/``, for the package ``jail``.

Runs for wheels and editable installs. Both depend on the machine but on no libc. One that is there already is kept when
the file ``.sha256`` beside it holds the hashes of the same sources and of this binary.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

#: The compiler, and its Debian package.
COMPILER = ("musl-gcc", "musl-tools")
_FLAGS = (
    *("-std=c11", "-D_GNU_SOURCE", "-Os"),
    *("-Wall", "-Wextra", "-Wshadow", "-Werror"),
    *("-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections,--build-id=none", "-s"),
)


class Product(NamedTuple):
    """A binary: its file, the directory of its sources, and its flags."""

    name: str
    sources: str
    flags: tuple[str, ...]


LAUNCHER = Product("launcher", "launcher", (*_FLAGS, "-static"))
#: Without any library, so that QEMU's own libc is the only one in its process.
PRELOAD = Product("preloaded.so", "preload", (*_FLAGS, "-shared", "-fPIC", "-nostdlib", "-ffreestanding"))


class LauncherHook(BuildHookInterface[BuilderConfig]):
    """Compiles both and puts them into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before hatchling collects files; ``version`` is "standard" or "editable"."""
        for product in (LAUNCHER, PRELOAD):
            build(Path(self.root), product)
        machine = platform.machine()
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-manylinux_2_17_{machine}.musllinux_1_1_{machine}"


def build(root: Path, product: Product) -> Path:
    """Compile a product unless it is there; return its path. Raises RuntimeError with what to do."""
    sources = sorted((root / product.sources).glob("*.[ch]"))
    binary = root / "src" / "vc_hypervisor_qemu" / "jail" / product.name
    stamp = binary.with_name(f"{product.name}.sha256")
    compiler, package = COMPILER
    wanted = _fingerprint(sources, product.flags)
    if binary.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == _stamp(wanted, binary):
        return binary
    if shutil.which(compiler) is None:
        raise RuntimeError(f"{compiler} is missing, and with it {product.name}: install the Debian package {package}")
    fresh = binary.with_name(f"{product.name}.{os.getpid()}")
    try:
        units = (str(source) for source in sources if source.suffix == ".c")
        subprocess.run([compiler, *product.flags, "-o", str(fresh), *units], check=True)
        fresh.replace(binary)
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"{compiler} could not compile {product.name}, see its messages above") from error
    finally:
        fresh.unlink(missing_ok=True)
    stamp.write_text(_stamp(wanted, binary), encoding="utf-8")
    return binary


def _stamp(sources: str, binary: Path) -> str:
    return f"{sources} sources\n{hashlib.sha256(binary.read_bytes()).hexdigest()} {binary.name}\n"


def _fingerprint(sources: list[Path], flags: tuple[str, ...]) -> str:
    """Return a hash of all that decides how a binary turns out, but for the compiler's version."""
    digest = hashlib.sha256(repr((platform.machine(), COMPILER, flags)).encode())
    for source in sources:
        digest.update(f"\0{source.name}\0".encode() + source.read_bytes())
    return digest.hexdigest()
