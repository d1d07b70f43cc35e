"""A virtual machine without any code of this project in it: the same kernel, an init of 50 lines."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.world import ACCELERATOR, OWN_SESSION, World
from vc_hypervisor_qemu.cmdline import machine
from vc_hypervisor_qemu.config import QemuConfig
from vc_hypervisor_qemu.host import find_binary


class BareVm:
    """One such machine. ``seconds_to_init`` is the time from the start of QEMU's process to init's first line.

    ``memory`` is that of the machine, in MiB.
    """

    def __init__(self, world: World, memory: int = 512) -> None:
        image, archive, folder = world.image, world.bare_archive, world.new_folder("vm")
        self._listeners = {name: _listen(folder / f"{name}.sock") for name in ("console", "port")}
        began = time.monotonic()
        self._qemu = subprocess.Popen(
            [
                str(find_binary("")), *machine(QemuConfig(), ACCELERATOR), "-m", str(memory),
                "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
                "-chardev", f"socket,id=c,path={folder}/console.sock", "-serial", "chardev:c",
                "-device", "virtio-serial-pci,disable-legacy=on",
                "-chardev", f"socket,id=p,path={folder}/port.sock", "-device", "virtserialport,chardev=p,name=p",
                "-kernel", str(image.kernel), "-initrd", str(archive),
                "-append", " ".join(["console=ttyS0", "quiet", *image.kernel_params]),
            ],
            stdin=subprocess.DEVNULL,
            start_new_session=OWN_SESSION,
        )  # fmt: skip
        try:
            self._console, self._port = (_accept(self._listeners[name]) for name in ("console", "port"))
            printed = b""
            while b"bare init" not in printed:
                printed += self._console.recv(4096)
        except BaseException:  # a kernel that finds no clock on a busy host spins for ever
            self._qemu.kill()
            self._qemu.wait()
            raise
        self.seconds_to_init = time.monotonic() - began

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._qemu.kill()
        self._qemu.wait()
        for sock in (*self._listeners.values(), self._console, self._port):
            sock.close()

    def wait_port(self) -> None:
        """Return when init listens on the port."""
        assert self._port.recv(1) == b"R"

    def run_true(self) -> float:
        """Return the seconds that fork, exec and end of ``busybox true`` take, measured on the host."""
        began = time.monotonic()
        self._port.sendall(b"x")
        assert self._port.recv(1) == b"D"
        return time.monotonic() - began

    def power_off(self) -> float:
        """Return the seconds from the request to the end of QEMU."""
        began = time.monotonic()
        self._port.sendall(b"q")
        self._qemu.wait(60)
        return time.monotonic() - began


def _listen(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen(1)
    return sock


def _accept(listener: socket.socket) -> socket.socket:
    listener.settimeout(30)
    sock, _ = listener.accept()
    sock.settimeout(60)
    return sock
