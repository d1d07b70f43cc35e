"""Runs a libvirt daemon of its own directories, for these VMs alone: ``vc-libvirtd DIRECTORY``.

The daemon of a host runs QEMU without rights, and under a policy that forbids the emulator of this driver. This one
runs beside it, so that its configuration need not change.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vc_core.driver import ProcessIdentity
from vc_core.errors import HypervisorError
from vc_hypervisor_libvirt import virsh
from vc_hypervisor_libvirt.domain import EMULATOR

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

#: Seconds in which the daemon must be ready, and in which it must end.
_READY, _ENDED = 60.0, 30.0

#: Of the daemon's modules the only one that it needs. The others would set up networks and firewalls of the host.
_MODULE = "libvirt_driver_qemu.so"
_MODULES = (Path("/usr/lib/x86_64-linux-gnu/libvirt/connection-driver"), Path("/usr/lib64/libvirt/connection-driver"))

#: Where a daemon's socket is below its directory.
PRIVATE = "/sockets/libvirt-sock"

_SCRIPT = Path(__file__).with_name("private-libvirtd")


def uri(directory: Path) -> str:
    """Return the URI of the daemon of a directory, for the option ``uri`` and the variable ``VC_LIBVIRT_URI``."""
    return f"qemu+unix:///system?socket={directory}{PRIVATE}"


def problems() -> list[str]:
    """Return one sentence for each reason why no daemon can be started on this host."""
    if shutil.which("libvirtd", path=_path()) is None or _modules() is None:
        return ["libvirtd is not installed; on Debian: apt install libvirt-daemon libvirt-daemon-driver-qemu"]
    return [] if os.geteuid() == 0 else ["libvirtd must be started by root"]


def start(directory: Path, cache: Path | None = None, idle: int = 0) -> None:
    """Start the daemon, and return when it accepts connections.

    ``directory``: all that it writes is below it; its path has 80 bytes at most. ``cache``: where it keeps what it
    found out about QEMU, which takes seconds; several daemons can share it. ``idle``: seconds after which it ends if it
    has neither clients nor VMs; 0: never. Raises HypervisorError.
    """
    if faults := problems():
        raise HypervisorError("; ".join(faults))
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    cache = cache or directory / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    modules = directory / "modules"
    modules.mkdir(exist_ok=True)
    (modules / _MODULE).unlink(missing_ok=True)
    (modules / _MODULE).symlink_to(_modules() or "")
    log = directory / "start.log"
    command = [
        "unshare",
        "--mount",
        "--propagation",
        "slave",
        "sh",
        str(_SCRIPT),
        str(directory),
        str(cache),
        str(idle),
    ]
    with log.open("wb") as output:
        try:
            # It returns when the daemon, in a process of its own, is ready.
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={"PATH": _path()}, timeout=_READY
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise HypervisorError(f"libvirtd cannot be started: {error}; see {log}") from error
    if done.returncode != 0:
        why = log.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
        raise HypervisorError(f"libvirtd cannot be started: {why or f'status {done.returncode}'}")
    # It now finds out what QEMU can do, for which the first start of a VM may have too little time.
    question = ("domcapabilities", "--emulatorbin", str(EMULATOR), "--machine", "q35", "--virttype", "qemu")
    try:
        asyncio.run(virsh.run(uri(directory), *question, timeout=_READY))
    except BaseException:
        stop(directory)
        raise


def stop(directory: Path) -> None:
    """End the daemon of a directory; its VMs run on. No error if none runs. Raises HypervisorError."""
    try:
        identity = ProcessIdentity.of(int((directory / "libvirtd.pid").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return
    if identity is None:
        return
    identity.send(15)
    if not identity.wait(_ENDED):
        raise HypervisorError(f"libvirtd still runs {_ENDED:g} s after SIGTERM")


class _Parser(argparse.ArgumentParser):
    """Reports help that cannot be written: argparse ignores that."""

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        """Print the help on standard output, or end this process with an error."""
        self.write(self.format_help())

    def write(self, text: str) -> None:
        """Print a text on standard output, or end this process with an error."""
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except OSError as error:
            sys.stdout = None  # what it has kept is not written as the interpreter ends
            self.exit(1, f"{self.prog}: the standard output cannot be written: {error.strerror}\n")


def main() -> None:
    """Start the daemon and print its URI, or end it: the command ``vc-libvirtd``."""
    parser = _Parser(prog="vc-libvirtd", description="Start a libvirt daemon for vc-hypervisor-libvirt.")
    parser.add_argument("directory", type=Path, help="where it keeps its files, such as /run/vc-libvirtd")
    parser.add_argument("--stop", action="store_true", help="end the daemon of this directory; its VMs run on")
    given = parser.parse_args()
    directory = given.directory.absolute()
    try:
        if given.stop:
            stop(directory)
        else:
            start(directory)
            parser.write(f"VC_LIBVIRT_URI={uri(directory)}\n")
    except HypervisorError as error:
        parser.exit(1, f"vc-libvirtd: {error}\n")


def _path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def _modules() -> Path | None:
    return next((path / _MODULE for path in _MODULES if (path / _MODULE).exists()), None)
