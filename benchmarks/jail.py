"""What the jail adds to the start of QEMU: to the greeting of its monitor, in a full jail against without one."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.frame import Row, Turn, turn
from benchmarks.world import ACCELERATOR, World
from vc_hypervisor_qemu.cmdline import SANDBOX, machine
from vc_hypervisor_qemu.config import QemuConfig
from vc_hypervisor_qemu.host import find_binary
from vc_hypervisor_qemu.jail import launcher
from vc_hypervisor_qemu.jail.places import Access, Place, View, view_without_pod

#: Seconds that the jail may add to a start.
AT_MOST = 0.020


@contextmanager
def _start(world: World) -> Iterator[Turn]:
    """Each QEMU has the kernel and the initramfs of a pod, and CPUs that are stopped."""
    if os.geteuid() != 0:
        raise PermissionError("only root can build a full jail")
    image, folder, binary = world.image, world.folder, find_binary("")
    empty = view_without_pod(binary, [])
    files = [Place(Access.READ, str(path), f"/boot/{path.name}") for path in (image.kernel, image.initramfs)]
    view = View([*empty.places, *files], empty.links)

    def argv(kernel: Path, initramfs: Path, monitor: int) -> list[str]:
        return [
            str(binary), *machine(QemuConfig(), ACCELERATOR), "-m", "512", "-S",
            "-nodefaults", "-no-user-config", "-display", "none", "-sandbox", SANDBOX,
            "-chardev", f"socket,id=m,fd={monitor}", "-mon", "chardev=m,mode=control",
            "-kernel", str(kernel), "-initrd", str(initramfs),
        ]  # fmt: skip

    def timed(run: Callable[[int], Callable[[], None]]) -> float:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            began = time.monotonic()
            end = run(theirs.fileno())
            assert ours.recv(4096)
            seconds = time.monotonic() - began
            end()
        return seconds

    def jailed(monitor: int) -> Callable[[], None]:
        command = argv(view.path(image.kernel), view.path(image.initramfs), monitor)
        order = launcher.Order(command, view, [monitor])
        made = asyncio.run(launcher.start(order, launcher.Level.FULL, folder, 2, 10.0))

        def end() -> None:
            signal.pidfd_send_signal(made.pidfd, signal.SIGKILL)
            select.select([made.pidfd], [], [])
            os.close(made.pidfd)

        return end

    def bare(monitor: int) -> Callable[[], None]:
        process = subprocess.Popen(
            argv(image.kernel, image.initramfs, monitor), pass_fds=[monitor], stdin=subprocess.DEVNULL
        )

        def end() -> None:
            process.kill()
            process.wait()

        return end

    yield turn(lambda: timed(jailed), lambda: timed(bare))


ROWS = (
    Row(
        "jail", "QEMU in a full jail to the greeting of its monitor", "QEMU without a jail", _start,
        limit=AT_MOST, rounds=20, difference=True,
    ),
)  # fmt: skip
