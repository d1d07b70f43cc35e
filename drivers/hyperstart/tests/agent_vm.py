"""A VM in which the real guest agent runs, for tests that are themselves its host."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from vc_core.testing import built_guest
from vc_hypervisor_qemu.host import find_binary


@contextmanager
def agent_vm(directory: Path, shares: Mapping[str, str]) -> Iterator[None]:
    """Run a VM during the block, whose channels are sockets in ``directory``, with the names of the channels.

    ``shares``: by mount tag, a directory below ``directory`` with QEMU's options of it.
    """
    image = built_guest("hyperstart")
    argv = [str(find_binary("")), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    argv += ["-machine", "q35,accel=tcg", "-cpu", "max", "-m", "256", "-serial", "file:console"]
    argv += ["-kernel", str(image.kernel), "-initrd", str(image.initramfs)]
    argv += ["-append", " ".join(image.kernel_params), "-device", "virtio-serial-pci"]
    for tag, share in shares.items():
        argv += ["-fsdev", f"local,id={tag},path={share}", "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
    listening = []
    for name in ("sh.hyper.channel.0", "sh.hyper.channel.1"):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(directory / name))
        listener.listen(1)
        listening.append(listener)
        argv += ["-chardev", f"socket,id=c{len(listening)},fd={listener.fileno()},server=on,wait=off"]
        argv += ["-device", f"virtserialport,chardev=c{len(listening)},name={name}"]
    process = subprocess.Popen(argv, cwd=directory, pass_fds=[listener.fileno() for listener in listening])
    try:
        for listener in listening:
            listener.close()
        yield
    finally:
        process.kill()
        process.wait()
