"""Build hook: compiles the guest agent in ``guest/`` to ``src/vc_agent_hyperstart/guest/init``.

Runs for wheels and editable installs. The binary is static: it depends on the machine but on no libc. One that is there
already is kept when ``init.sha256`` beside it holds the hashes of the same sources and of this binary. Tests also
compile it for other machines. The same sources and compiler make the same bytes, in whichever directory.
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

#: The compiler for this machine, and its Debian package; for others see :func:`_compiler`.
COMPILER = ("musl-gcc", "musl-tools")
MUSL = f"/usr/lib/{platform.machine()}-linux-musl"  #: its libraries, in Debian's musl-dev
#: There is no -D_FORTIFY_SOURCE, because it would do nothing: musl's headers have no checked functions, and Debian has
#: no package of the fortify-headers that add them. The fuzzers run the same sources with the address sanitizer.
FLAGS = (
    *("-std=c11", "-D_GNU_SOURCE", "-Os"),
    *("-fPIE", "-fstack-protector-strong", "-Wl,-z,relro,-z,now,-z,text"),  # loaded at a random address
    "-fno-builtin-memcpy",  # which -Os makes `rep movsb`, and an emulated CPU executes that byte by byte
    *("-Wall", "-Wextra", "-Wshadow", "-Werror"),
    *("-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections,--build-id=none", "-s"),
)


class GuestAgentHook(BuildHookInterface[BuilderConfig]):
    """Compiles the guest agent and puts it into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before hatchling collects files; ``version`` is "standard" or "editable"."""
        build_guest_agent(Path(self.root))
        machine = platform.machine()
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-manylinux_2_17_{machine}.musllinux_1_1_{machine}"


def build_guest_agent(root: Path, machine: str = platform.machine()) -> Path:
    """Compile the guest agent for a machine (``uname -m``) unless it is there; return its path.

    For this machine that is ``init``, for another ``init-MACHINE``. Raises RuntimeError with what to do.
    """
    sources = sorted((root / "guest").glob("*.[ch]"))
    name = "init" if machine == platform.machine() else f"init-{machine}"
    binary = root / "src" / "vc_agent_hyperstart" / "guest" / name
    stamp = binary.with_name(f"{name}.sha256")
    compiler, package = _compiler(machine)
    wanted = _fingerprint(machine, compiler, sources)
    if binary.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == _stamp(wanted, binary):
        return binary
    if shutil.which(compiler) is None:
        raise RuntimeError(f"{compiler} is missing, and with it the guest agent: install the Debian package {package}")
    binary.parent.mkdir(parents=True, exist_ok=True)
    fresh = binary.with_name(f"{name}.{os.getpid()}")
    try:
        files = [str(source) for source in sources if source.suffix == ".c"]
        subprocess.run([compiler, *FLAGS, "-o", str(fresh), *_static_pie(compiler, files)], check=True)
        fresh.replace(binary)
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"{compiler} could not compile the guest agent, see its messages above") from error
    finally:
        fresh.unlink(missing_ok=True)
    stamp.write_text(_stamp(wanted, binary), encoding="utf-8")
    return binary


def _stamp(sources: str, binary: Path) -> str:
    return f"{sources} sources\n{hashlib.sha256(binary.read_bytes()).hexdigest()} {binary.name}\n"


def _static_pie(compiler: str, files: list[str]) -> list[str]:
    """Return the options and files to link a static program that relocates itself.

    Debian's musl-gcc takes -static-pie for a dynamic program, so musl's start files for such programs are named here.
    """
    if compiler != COMPILER[0]:
        return ["-static-pie", *files]
    begin, prologue, epilogue = (f"{MUSL}/{name}.o" for name in ("rcrt1", "crti", "crtn"))
    return ["-static", "-nostartfiles", "-Wl,-pie,--no-dynamic-linker", begin, prologue, *files, epilogue]


def _compiler(machine: str) -> tuple[str, str]:
    """Return the compiler for a machine and its Debian package. For another machine Debian's come with glibc."""
    if machine == platform.machine():
        return COMPILER
    return f"{machine}-linux-gnu-gcc", f"gcc-{machine.replace('_', '-')}-linux-gnu"


def _fingerprint(machine: str, compiler: str, sources: list[Path]) -> str:
    """Return a hash of all that decides how the binary turns out, but for the compiler's version."""
    digest = hashlib.sha256(repr((machine, compiler, FLAGS)).encode())
    for source in sources:
        digest.update(f"\0{source.name}\0".encode() + source.read_bytes())
    return digest.hexdigest()
