"""Streams of one VM: through the agent, and over a bare virtio-serial port that `cat` reads or writes, in turns."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Self

from benchmarks.frame import Row, Section, Turn, turn
from benchmarks.world import ACCELERATOR, World
from vc_agent_hyperstart.agent import HyperstartAgent
from vc_agent_hyperstart.config import HyperstartConfig
from vc_agent_hyperstart.plugin import GUEST_AGENT
from vc_core.config.container import Cmd, EnvVar
from vc_core.config.pod import HypervisorConfig, Resources
from vc_core.driver.agent import GuestContainer, ProcessIO
from vc_core.driver.context import PodContext
from vc_hypervisor_qemu.cmdline import machine
from vc_hypervisor_qemu.config import QemuConfig
from vc_hypervisor_qemu.host import find_binary

SIZE = 32 * 1024 * 1024
_SIZE = f"{SIZE >> 20} MiB"
TIMEOUT = 60

_BLOCK = bytes(65536)
_PORT = "bench"


class Counter(ProcessIO):
    """Supplies ``size`` bytes of input, and counts output."""

    def __init__(self, size: int = 0) -> None:
        self.has_input = size > 0
        self.output = b""
        self.received = 0
        self._left = size

    async def read_stdin(self) -> bytes:
        """Return the next block."""
        count = min(self._left, len(_BLOCK))
        self._left -= count
        return _BLOCK[:count]

    async def write_stdout(self, data: bytes) -> None:
        """Count, and keep the first block."""
        self.output = self.output or data
        self.received += len(data)

    async def write_stderr(self, data: bytes) -> None:
        """Drop the data."""


class StreamVm:
    """The built guest with one container, the agent connected to it, and one port besides those of the agent."""

    def __init__(self, world: World) -> None:
        image, self._folder = world.image, world.new_folder("streams")
        shutil.copytree(world.bundle, self._folder / "share/c", symlinks=True)
        pod = PodContext(
            id="bench", uuid="00000000-0000-0000-0000-000000000000", run_dir=self._folder,
            share_dir=self._folder / "share", resources=Resources(), hypervisor_config=HypervisorConfig(),
        )  # fmt: skip
        self._agent = HyperstartAgent(pod, HyperstartConfig(), None)
        arguments = [
            str(find_binary("")), *machine(QemuConfig(), ACCELERATOR), "-m", "512", "-nodefaults", "-no-user-config",
            "-no-reboot", "-display", "none", "-device", "virtio-serial-pci",
            "-fsdev", "local,id=share,path=share,security_model=none,readonly=on",
            "-device", "virtio-9p-pci,fsdev=share,mount_tag=hyperShared",
            "-kernel", str(image.kernel), "-initrd", str(image.initramfs), "-append", " ".join(image.kernel_params),
        ]  # fmt: skip
        listeners = []
        for number, name in enumerate(("sh.hyper.channel.0", "sh.hyper.channel.1", _PORT)):
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(self._folder / name))
            listener.listen(1)
            listeners.append(listener)
            arguments += ["-chardev", f"socket,id=c{number},fd={listener.fileno()},server=on,wait=off"]
            arguments += ["-device", f"virtserialport,chardev=c{number},name={name}"]
        self._qemu = subprocess.Popen(
            arguments, cwd=self._folder, stdin=subprocess.DEVNULL, pass_fds=[one.fileno() for one in listeners]
        )
        for listener in listeners:
            listener.close()

    async def __aenter__(self) -> Self:
        await self._agent.connect(self._open, TIMEOUT)
        await self._agent.start_pod("bench", "", TIMEOUT)
        sleep = Cmd(args=["sleep", "100000"], envs=[EnvVar("PATH", "/bin")])
        await self._agent.start_container(GuestContainer("c", "c/rootfs", sleep), Counter(), TIMEOUT)
        await self._open_port()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._agent.aclose()
        self._port.close()
        self._qemu.kill()
        self._qemu.wait()

    async def _open_port(self) -> None:
        self._port = await self._open(_PORT)
        self._port.setblocking(True)

    async def _open(self, name: str) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        sock.connect(str(self._folder / name))
        return sock

    async def _run(self, container: str, script: str, io: Counter) -> None:
        process = await self._agent.exec(container, Cmd(args=["/bin/busybox", "sh", "-c", script]), io, TIMEOUT)
        assert await self._agent.wait(process) == 0

    async def _beside(self, work: Callable[[], None], script: str) -> None:
        """Run a script in the guest itself and ``work`` in a thread here; $port of the script is the port's device."""
        find = f"for port in /sys/class/virtio-ports/*; do grep -qx {_PORT} $port/name && break; done; "
        find += "port=/dev/${port##*/}; "
        aliases = "".join(f"alias {name}='/bin/busybox {name}'; " for name in ("cat", "dd", "grep", "head"))
        await asyncio.gather(asyncio.to_thread(work), self._run("", aliases + "\n" + find + script, Counter()))

    # The measured work.

    async def out(self) -> None:
        """Guest to host, through the agent."""
        io = Counter()
        await self._run("c", f"/bin/busybox dd if=/dev/zero bs=64k count={SIZE >> 16} 2>/dev/null", io)
        assert io.received == SIZE

    async def bare_out(self) -> None:
        """Guest to host, over the port."""

        def drain() -> None:
            received, buffer = 0, bytearray(2 * len(_BLOCK))
            while received < SIZE:
                received += self._port.recv_into(buffer)

        await self._beside(drain, f"dd if=/dev/zero bs=64k count={SIZE >> 16} 2>/dev/null | cat >$port")

    async def into(self) -> None:
        """Host to guest, through the agent."""
        await self._run("c", "/bin/busybox cat >/dev/null", Counter(SIZE))

    async def bare_into(self) -> None:
        """Host to guest, over the port."""

        def fill() -> None:
            for _ in range(SIZE // len(_BLOCK)):
                self._port.sendall(_BLOCK)
            self._port.shutdown(socket.SHUT_WR)  # the guest reads the end of the file after all bytes
            assert self._port.recv(1) == b""

        await self._beside(fill, "cat <$port | cat >/dev/null")
        self._port.close()
        await self._open_port()

    async def agent_memory(self) -> int:
        """Return the resident memory of the guest agent in KiB."""
        io = Counter()
        await self._run("", "/bin/busybox grep VmRSS /proc/1/status", io)
        found = re.search(rb"(\d+) kB", io.output)
        assert found
        return int(found[1])


#: What is measured of a VM.
Work = Callable[[StreamVm], Coroutine[None, None, None]]


def _measured(ours: Work, other: Work) -> Callable[[World], AbstractContextManager[Turn]]:
    """Return what measures a row: both kinds of work in turns on one VM."""

    @contextmanager
    def measure(world: World) -> Iterator[Turn]:
        with asyncio.Runner() as runner, _running(runner, world) as vm:

            def timed(work: Work) -> float:
                began = time.monotonic()
                runner.run(work(vm))
                return time.monotonic() - began

            yield turn(lambda: timed(ours), lambda: timed(other))

    return measure


@contextmanager
def _running(runner: asyncio.Runner, world: World) -> Iterator[StreamVm]:
    async def enter() -> StreamVm:
        return await StreamVm(world).__aenter__()

    vm = runner.run(enter())
    try:
        yield vm
    finally:
        runner.run(vm.__aexit__())


def _rates(direction: str) -> Callable[[float, float], str]:
    return lambda ours, bare: (
        f"Streams {direction}: {SIZE / ours / 1e6:.0f} MB/s through the agent, {SIZE / bare / 1e6:.0f} MB/s bare."
    )


def _agent_size(world: World) -> Iterator[str]:
    with asyncio.Runner() as runner, _running(runner, world) as vm:
        before = runner.run(vm.agent_memory())
        runner.run(vm.out())
        runner.run(vm.into())
        after = runner.run(vm.agent_memory())
    size = GUEST_AGENT.stat().st_size / 1024
    yield f"A binary of {size:.0f} KiB; {before} KiB resident with one container, {after} KiB after {_SIZE} each way."


def _row(name: str, direction: str, ours: Work, other: Work) -> Row:
    return Row(
        name, f"a command's {_SIZE} {direction}", "`cat` between a pipe and a virtio-serial port of the same VM",
        _measured(ours, other), limit=1.43, rounds=5, figure=_rates(direction),
    )  # fmt: skip


ROWS = (
    _row("output", "guest to host", StreamVm.out, StreamVm.bare_out),
    _row("input", "host to guest", StreamVm.into, StreamVm.bare_into),
)
SECTIONS = (Section("guest-agent", "The guest agent", _agent_size),)
