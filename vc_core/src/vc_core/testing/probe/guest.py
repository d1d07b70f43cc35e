"""Compiles the probing guest's init and lets a guest driver build a guest of it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from vc_core.driver.guest import GuestImage, GuestPayload
from vc_core.errors import GuestError
from vc_core.store.roots import CACHE_VARIABLE, Roots, private_directory
from vc_core.testing.guests import built_guest

_SOURCE = Path(__file__).with_name("init.c")

#: The compilers that make a static program, the first that is installed is used; on Debian they are in the packages
#: musl-tools, and gcc with libc6-dev.
_COMPILERS = ("musl-gcc", "gcc", "cc")

_FLAGS = ("-static", "-Os", "-s", "-Wall", "-Wextra", "-o")

#: Seconds for the compiler.
_TIMEOUT = 60.0

#: Kernel modules of the guest: virtio on either bus, channels, shares over 9p, disks on either bus, network. A builder
#: leaves out those that its kernel has built in or does not have.
_MODULES = (
    *("virtio_pci", "virtio_mmio", "virtio_console", "9pnet_virtio", "9p"),
    *("virtio_blk", "virtio_scsi", "sd_mod", "virtio_net"),
)


@cache
def probing_guest(builder: str) -> GuestImage:
    """Return the probing guest, built by the guest driver ``builder`` unless the cache of built guests holds it.

    Called by the fixture ``probing_boot`` of the hypervisors' contract. Raises GuestError without a compiler;
    ConfigError, GuestError and DriverError if the guest cannot be built.
    """
    return built_guest("contract-kit", GuestPayload({"/init": str(_init())}, modules=_MODULES), builder=builder)


def _init() -> Path:
    """Return the static init, compiled once for each version of its source. Raises GuestError."""
    compiler = next(filter(None, map(shutil.which, _COMPILERS)), None)
    if compiler is None:
        raise GuestError(
            f"the probing guest needs a C compiler, {', '.join(_COMPILERS)}; on Debian: apt install musl-tools"
        )
    inputs = b"\0".join([_SOURCE.read_bytes(), compiler.encode(), *map(str.encode, _FLAGS)])
    cache = private_directory(Roots.from_environment().cache, CACHE_VARIABLE)
    directory = private_directory(cache / "probing-guest", CACHE_VARIABLE)
    program = directory / hashlib.sha256(inputs).hexdigest()[:32]
    if not program.exists():
        new = program.with_name(f".{program.name}.{os.getpid()}")
        try:
            _run(compiler, *_FLAGS, str(new), str(_SOURCE))
            new.replace(program)
        finally:
            new.unlink(missing_ok=True)
    return program


def _run(*argv: str) -> None:
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GuestError(f"{argv[0]} cannot compile the probing guest: {error}") from error
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise GuestError(
            f"{argv[0]} cannot compile the probing guest as a static program: {lines[-1]}; on Debian: "
            "apt install musl-tools"
        )
