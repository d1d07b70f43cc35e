"""A virtual machine without any code of this project in it: the same kernel, an init of 50 lines."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from vc_core.config.pod import HypervisorConfig
from vc_core.driver.guest import GuestImage
from vc_hypervisor_qemu.cmdline import machine
from vc_hypervisor_qemu.config import QemuConfig
from vc_hypervisor_qemu.host import find_binary

HERE = Path(__file__).parent

#: What runs the VMs of all measurements: the limits of the ratios hold for emulation, and KVM is not everywhere.
ACCELERATOR = "tcg"
EMULATED = HypervisorConfig(options={"accel": ACCELERATOR})


def initramfs(image: GuestImage, folder: Path) -> Path:
    """Return the guest's initramfs with another /init and busybox appended; the kernel unpacks both archives."""
    top = folder / "bare"
    (top / "bin").mkdir(parents=True)
    (top / "dev").mkdir()
    source = HERE / "init.c"
    subprocess.run(["musl-gcc", "-Os", "-static", "-w", "-o", str(top / "init"), str(source)], check=True)
    shutil.copy(shutil.which("busybox") or "/bin/busybox", top / "bin/busybox")
    names = "\n".join(str(path.relative_to(top)) for path in sorted(top.rglob("*")))
    archive = subprocess.run(
        ["cpio", "-o", "-H", "newc", "--owner=0:0", "--quiet"],
        cwd=top,
        input=names.encode(),
        capture_output=True,
        check=True,
    )
    target = folder / "bare.cpio"
    target.write_bytes(image.initramfs.read_bytes() + archive.stdout)
    return target


class BareVm:
    """One such machine. ``seconds_to_init`` is the time from the start of QEMU's process to init's first line."""

    def __init__(self, image: GuestImage, archive: Path, folder: Path) -> None:
        self._listeners = {name: _listen(folder / f"{name}.sock") for name in ("console", "port")}
        began = time.monotonic()
        self._qemu = subprocess.Popen(
            [
                str(find_binary("")), *machine(QemuConfig(), ACCELERATOR), "-m", "512",
                "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
                "-chardev", f"socket,id=c,path={folder}/console.sock", "-serial", "chardev:c",
                "-device", "virtio-serial-pci,disable-legacy=on",
                "-chardev", f"socket,id=p,path={folder}/port.sock", "-device", "virtserialport,chardev=p,name=p",
                "-kernel", str(image.kernel), "-initrd", str(archive),
                "-append", " ".join(["console=ttyS0", "quiet", *image.kernel_params]),
            ],
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        self._console, self._port = (_accept(self._listeners[name]) for name in ("console", "port"))
        printed = b""
        while b"bare init" not in printed:
            printed += self._console.recv(4096)
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
