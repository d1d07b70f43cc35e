"""One guest built from Debian's real packages, booted in a real virtual machine."""

import shutil
import subprocess

import pytest
from made_up_debian import Maker

from needs import require
from vc_core.driver import GuestImage, GuestPayload
from vc_core.testing.slowness import scaled

#: Seconds for a guest that boots, loads its modules and ends; it takes some five, on a busy host ten times that.
BOOT = scaled(180)

INIT = """#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t securityfs securityfs /sys/kernel/security
while read -r module; do /bin/busybox insmod $module || echo "FAILED $module"; done < /lib/modules/load
echo "LOCKDOWN $(/bin/busybox cat /sys/kernel/security/lockdown)"
while read -r name rest; do echo "MODULE $name"; done < /proc/modules
/bin/busybox grep -q nodev.9p /proc/filesystems && echo "9P"
/bin/busybox poweroff -f
"""
MODULES = ("virtio_console", "9pnet_virtio", "9p", "overlay", "squashfs")


@pytest.fixture(scope="session")
def real_guest(tmp_path_factory: pytest.TempPathFactory) -> GuestImage:
    """Return a guest made of the kernel that the host's own sources offer, whose init is a shell script."""
    directory = tmp_path_factory.mktemp("real")
    init = directory / "init"
    init.write_text(INIT, encoding="utf-8")
    init.chmod(0o755)
    require("busybox")
    busybox = shutil.which("busybox")
    assert busybox is not None
    for name in ("proc", "sys"):
        (directory / name).write_bytes(b"")
    payload = GuestPayload(
        {
            "/init": str(init),
            "/bin/busybox": busybox,
            "/proc/.keep": str(directory / "proc"),
            "/sys/.keep": str(directory / "sys"),
        },
        modules=MODULES,
    )
    return Maker(payload, directory / "cache").build()


@pytest.mark.vm
def test_the_real_kernel_boots_loads_the_modules_and_prints_to_the_console(real_guest: GuestImage) -> None:
    params = ("console=ttyS0", "quiet", "panic=-1", *real_guest.kernel_params)
    argv = [
        "qemu-system-x86_64",
        "-machine",
        "q35,accel=tcg",
        "-cpu",
        "max",
        "-m",
        "256",
        "-nodefaults",
        "-no-user-config",
    ]
    argv += ["-display", "none", "-no-reboot", "-serial", "stdio", "-device", "virtio-rng-pci"]
    argv += ["-kernel", str(real_guest.kernel), "-initrd", str(real_guest.initramfs), "-append", " ".join(params)]
    vm = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", check=True, timeout=BOOT)
    lines = vm.stdout.splitlines()
    # Some releases have a part of virtio built in; that it works is seen by what needs it.
    modules = {*MODULES, "virtio_rng"} - {"virtio_console"}
    assert {f"MODULE {name}" for name in modules} <= set(lines), vm.stdout
    assert not [line for line in lines if line.startswith("FAILED")]
    assert "9P" in lines
    assert "LOCKDOWN none integrity [confidentiality]" in lines


@pytest.mark.vm
def test_the_real_kernel_has_a_pvh_entry(real_guest: GuestImage) -> None:
    assert real_guest.kernel.read_bytes().startswith(b"\x7fELF")
