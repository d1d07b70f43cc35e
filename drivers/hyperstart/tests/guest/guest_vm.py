"""The real guest agent in a VM, and hosts that speak to it on raw sockets: independent of the host driver."""

from __future__ import annotations

import json
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from needs import require
from scripts import load
from vc_agent_hyperstart.codec import Code, StreamControlType
from vc_agent_hyperstart.config import HyperstartConfig
from vc_agent_hyperstart.plugin import HyperstartPlugin
from vc_core.driver import GuestImage
from vc_core.testing import built_guest
from vc_core.testing.slowness import scaled

DRIVER = Path(__file__).parents[2]

#: Seconds. A boot under emulation takes two to six; with ten processes for each processor fifty times that, because the
#: guest spends its share on the ticks of its clock.
BOOT = scaled(300)
TIMEOUT = scaled(60)


def make_root_fs(root: Path) -> None:
    for name in ("bin", "etc", "root", "tmp", "home/bob", "locked"):
        (root / name).mkdir(parents=True)
    (root / "locked").chmod(0o700)
    require("busybox")
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy(busybox, root / "bin/busybox")
    applets = (
        "cat chmod dd echo env head hostname id kill ln ls mkdir mknod mount mv ping ps readlink rm sh sha256sum sleep "
        "stat stty touch true tty"
    )
    for applet in (*applets.split(), "wc"):
        (root / "bin" / applet).symlink_to("busybox")
    (root / "bin/script").write_text("#!/nowhere/sh\n", encoding="utf-8")
    (root / "bin/script").chmod(0o755)
    (root / "etc/passwd").write_text(
        "root:x:0:0::/root:/bin/sh\nbob:x:1000:1001::/home/bob:/bin/sh\n", encoding="utf-8"
    )
    (root / "etc/group").write_text("root:x:0:\nbob:x:1001:\nstaff:x:50:alice,bob\nextra:x:60:\n", encoding="utf-8")


#: QEMU's type for each machine (``uname -m``).
MACHINES = {"x86_64": "q35", "aarch64": "virt"}


class VM:
    """A running guest; its channels are the sockets ``control`` and ``stream`` in its directory.

    ``devices`` are further arguments of QEMU, which runs in the directory.
    """

    def __init__(
        self,
        directory: Path,
        image: GuestImage,
        options: Iterable[str],
        ports: Sequence[str],
        machine: str,
        devices: Sequence[str],
    ) -> None:
        self.directory = directory
        argv = [f"qemu-system-{machine}", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
        argv += ["-machine", f"{MACHINES[machine]},accel=tcg", "-cpu", "max", "-m", "256", "-serial", "file:console"]
        argv += ["-kernel", str(image.kernel), "-initrd", str(image.initramfs)]
        argv += ["-append", " ".join((*image.kernel_params, *options)), "-device", "virtio-serial-pci"]
        for tag, path, access in (
            ("share", "share", "security_model=none,readonly=on"),
            ("live", "share", "security_model=none,readonly=on"),
            ("writable", "writable", "security_model=mapped-xattr"),
        ):
            argv += ["-fsdev", f"local,id={tag},path={path},{access}"]
            argv += ["-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
        listeners = []
        for number, name in enumerate(ports):
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(directory / name))
            listener.listen(1)
            listeners.append(listener)
            argv += ["-chardev", f"socket,id=c{number},fd={listener.fileno()},server=on,wait=off"]
            argv += ["-device", f"virtserialport,chardev=c{number},name=sh.hyper.channel.{number}"]
        argv += ["-qmp", "unix:qmp,server=on,wait=off", *devices]
        self.process = subprocess.Popen(argv, cwd=directory, pass_fds=[each.fileno() for each in listeners])
        for listener in listeners:
            listener.close()

    def console(self) -> str:
        return (self.directory / "console").read_text(errors="replace", encoding="utf-8")

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


class Qmp:
    """QEMU's own protocol, as much of it as adds devices."""

    def __init__(self, vm: VM) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(TIMEOUT)
        self.socket.connect(str(vm.directory / "qmp"))
        self.file = self.socket.makefile("rwb", buffering=0)
        self.file.readline()
        self("qmp_capabilities")

    def __call__(self, command: str, **arguments: Any) -> None:
        self.file.write(json.dumps({"execute": command, "arguments": arguments}).encode())
        while "event" in (answer := json.loads(self.file.readline())):
            pass
        assert "return" in answer, answer

    def close(self) -> None:
        self.file.close()
        self.socket.close()


class Wire:
    """The protocol's sizes. Tests find them on the host."""

    TOKEN = bytes(range(16))
    MARKER = b"\xffVCSYNC\0\xff" + TOKEN

    #: What the protocol lets each side have on its way.
    WINDOW = 524288
    FRAME_PAYLOAD = 32768

    #: The last bytes of a full window may wait for credit, to go with what follows them.
    HELD = 4096


class RawHost(Wire):
    """One host: a connection to both channels. Everything has a timeout; nothing is done behind the test's back."""

    def __init__(self, vm: VM) -> None:
        self.control, self.stream = (socket.socket(socket.AF_UNIX) for _ in range(2))
        for sock, name in ((self.control, "control"), (self.stream, "stream")):
            sock.settimeout(TIMEOUT)
            sock.connect(str(vm.directory / name))
        self.nexts = 0  #: bytes that NEXT frames acknowledged
        self.events: list[tuple[int, bytes]] = []  #: unsolicited control frames
        self.output: dict[int, bytes] = {}  #: bytes by stream
        self.consumed: dict[int, int] = {}  #: what we gave credit for, by stream
        self.credit: dict[int, int] = {}  #: what the guest consumed, by stream
        self.empty: set[int] = set()  #: streams whose empty frame came
        self.status: dict[int, int] = {}  #: exit status by stdio stream
        self.gives_credit = True
        self.patience = TIMEOUT
        self._next_stream = time.monotonic_ns()

    def be_patient(self, seconds: float) -> None:
        """Wait for what comes next for so long."""
        self.patience = seconds
        self.stream.settimeout(seconds)

    def close(self) -> None:
        self.control.close()
        self.stream.close()

    def new_streams(self) -> tuple[int, int]:
        self._next_stream += 2
        return self._next_stream, self._next_stream + 1

    # Control channel

    def send(self, code: int, payload: object = b"") -> None:
        if not isinstance(payload, bytes):
            payload = json.dumps(payload).encode()
        self.control.sendall(struct.pack(">II", code, 8 + len(payload)) + payload)

    def frame(self) -> tuple[int, bytes]:
        code, length = struct.unpack(">II", exactly(self.control, 8))
        return code, exactly(self.control, length - 8)

    def reply(self) -> tuple[int, bytes]:
        while True:
            code, payload = self.frame()
            if code == Code.NEXT:
                self.nexts += int.from_bytes(payload, "big")
            elif code in (Code.ACK, Code.ERROR):
                return code, payload
            else:
                self.events.append((code, payload))

    def call(self, code: int, payload: object = b"") -> tuple[int, bytes]:
        self.send(code, payload)
        return self.reply()

    def ok(self, code: int, payload: object = b"") -> bytes:
        answer, data = self.call(code, payload)
        assert answer == Code.ACK, data
        return data

    def refused(self, code: int, payload: object = b"") -> Any:
        """Return the reason and exit code of the ERROR that a command gets."""
        answer, data = self.call(code, payload)
        assert answer == Code.ERROR
        return json.loads(data) if data else None

    def hello(self, token: bytes = Wire.TOKEN) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.ok(Code.HELLO, {"version": 1, "token": token.hex()}))
        return answer

    def start_container(self, name: str, *args: str, **more: Any) -> int:
        stdio, stderr = self.new_streams()
        process = {"stdio": stdio, "stderr": stderr, "args": list(args), **more.pop("process", {})}
        self.ok(
            Code.NEWCONTAINER,
            {"id": name, "image": "base", "rootfs": "rootfs", "overlay": True, "process": process, **more},
        )
        return stdio

    def exec(self, container: str, *args: str, **more: Any) -> int:
        """Start a process and return its stdio stream; its stderr stream is the next number."""
        stdio, stderr = self.new_streams()
        self.ok(
            Code.EXECCMD,
            {"container": container, "process": {"stdio": stdio, "stderr": stderr, "args": list(args), **more}},
        )
        return stdio

    def run(self, container: str, *args: str, stdin: bytes | None = None, **more: Any) -> tuple[int, bytes, bytes]:
        """Run a process to its end; return status, standard output and standard error."""
        stdio = self.exec(container, *args, **more)
        if stdin is not None:
            self.feed(stdio, stdin)
        return self.finish(stdio)

    def finish(self, stdio: int) -> tuple[int, bytes, bytes]:
        """Wait for the end of a process and release it."""
        self.wait_for(lambda: stdio in self.status)
        self.send_control(StreamControlType.RELEASE, stdio)
        return self.status.pop(stdio), self.output.pop(stdio, b""), self.output.pop(stdio + 1, b"")

    # Stream channel

    def send_stream(self, stream: int, payload: bytes = b"") -> None:
        self.stream.sendall(struct.pack(">QI", stream, 12 + len(payload)) + payload)

    def send_control(self, kind: int, stream: int, value: int = 0) -> None:
        self.send_stream(0, struct.pack(">BQQ", kind, stream, value))

    def stream_frame(self) -> tuple[int, bytes]:
        stream, length = struct.unpack(">QI", exactly(self.stream, 12))
        return stream, exactly(self.stream, length - 12)

    def read_stream(self) -> None:
        """Read one frame and take note of it."""
        stream, payload = self.stream_frame()
        assert len(payload) <= self.FRAME_PAYLOAD
        if stream == 0:
            kind, stream, value = struct.unpack(">BQQ", payload)
            assert kind == StreamControlType.CREDIT
            self.credit[stream] = value
        elif stream in self.empty:
            self.empty.discard(stream)
            (self.status[stream],) = payload
        elif not payload:
            self.empty.add(stream)
        else:
            self.output[stream] = self.output.get(stream, b"") + payload
            unconsumed = len(self.output[stream]) - self.consumed.get(stream, 0)
            assert unconsumed <= self.WINDOW, "the guest sent more than its window"
            if self.gives_credit and unconsumed >= self.WINDOW // 4:
                self.give_credit(stream)

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Read until ``condition()`` holds."""
        deadline = time.monotonic() + self.patience
        while not condition():
            assert time.monotonic() < deadline, (self.status, self.output.keys())
            self.read_stream()

    def give_credit(self, stream: int) -> None:
        self.consumed[stream] = len(self.output[stream])
        self.send_control(StreamControlType.CREDIT, stream, self.consumed[stream])

    def feed(self, stdio: int, data: bytes, end: bool = True) -> None:
        """Send input as the window allows, and then its end."""
        sent = 0
        while sent < len(data):
            while sent - self.credit.get(stdio, 0) >= self.WINDOW:
                self.read_stream()
            room = min(self.WINDOW - (sent - self.credit.get(stdio, 0)), self.FRAME_PAYLOAD)
            self.send_stream(stdio, data[sent : sent + room])
            sent += len(data[sent : sent + room])
        if end:
            self.send_stream(stdio)

    def quiet(self, seconds: float = 0.3) -> bool:
        """Whether the guest sends nothing on the stream channel for so long."""
        self.stream.settimeout(seconds)
        try:
            self.read_stream()
        except TimeoutError:
            return True
        finally:
            self.stream.settimeout(TIMEOUT)
        return False

    def drain(self) -> None:
        """Read what the processes of earlier tests have sent, until the guest sends nothing."""
        deadline = time.monotonic() + self.patience
        while not self.quiet():
            assert time.monotonic() < deadline, "the guest goes on sending"

    def take_over(self, nonce: bytes = b"takeover") -> None:
        """Send the marker on both channels, and drop what comes before its echo."""
        for sock in (self.control, self.stream):
            sock.sendall(self.MARKER + nonce)
        for sock in (self.control, self.stream):
            seen = b""
            while not seen.endswith(self.MARKER + nonce):
                seen = seen[-64:] + exactly(sock, 1)


def exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = sock.recv(count - len(data))
        assert piece, "the channel was closed"
        data += piece
    return data


def load_build_hook() -> ModuleType:
    return load(DRIVER / "hatch_build.py")


def build_image(machine: str, **payload: Any) -> GuestImage:
    """Return a guest for a machine; ``payload`` is what differs from the usual payload."""
    usual = HyperstartPlugin().vc_agent_guest(HyperstartConfig())
    return built_guest("hyperstart", replace(usual, **payload), architecture=machine)


@contextmanager
def booted(
    directory: Path,
    image: GuestImage,
    options: Iterable[str] = (),
    ports: Sequence[str] = ("control", "stream"),
    machine: str = "x86_64",
    devices: Sequence[str] = (),
) -> Iterator[VM]:
    """Boot a VM, wait until its agent is ready; it ends with the block.

    ``ports`` are the sockets behind sh.hyper.channel.0 and sh.hyper.channel.1.
    """
    make_root_fs(directory / "share/base/rootfs")
    (directory / "writable").mkdir()
    vm = VM(directory, image, options, ports, machine, devices)
    try:
        with closing(RawHost(vm)) as host:
            host.control.settimeout(BOOT)
            assert host.frame() == (Code.READY, b"")
        yield vm
    finally:
        vm.close()


@contextmanager
def with_pod(directory: Path, image: GuestImage, **more: Any) -> Iterator[VM]:
    """Boot a VM; its host sends HELLO and starts a pod and a container c1 that sleeps."""
    with booted(directory, image, **more) as vm:
        host = RawHost(vm)
        host.hello()
        host.ok(Code.STARTPOD, {"hostname": "pod-host", "shareDir": "share", "containers": []})
        host.start_container("c1", "sleep", "1000000")
        host.close()
        yield vm
