"""Raw clones of a template of this project: its QEMU and its guest without any code of this project on the host.

The command line is that of a pod which was started from the template. It inherits the saved state as a descriptor. Its
monitor and guest agent are spoken to over socket pairs, the agent by frames that are written here by hand
(docs/reference/guest-protocol.md).
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

import vc_core as vc
from benchmarks.world import EMULATED, OWN_SESSION, World
from vc_core.config.limits import DEFAULT_CAPABILITIES
from vc_core.config.pod import Resources
from vc_core.store.roots import Roots
from vc_core.store.store import Store

#: Codes of control frames.
_STARTPOD, _ACK, _NEXT, _NEWCONTAINER, _HELLO, _WAKE = 1, 9, 14, 17, 4096, 4099

#: What QEMU executes to load the state, which is that of a VM with stopped CPUs.
_LOAD = """
{{"execute": "qmp_capabilities"}}
{{"execute": "migrate-set-capabilities",
  "arguments": {{"capabilities": [{{"capability": "x-ignore-shared", "state": true}},
                                 {{"capability": "events", "state": true}}]}}}}
{{"execute": "migrate-incoming", "arguments": {{"uri": "fd:{state}"}}}}
"""


@dataclass(frozen=True)
class RawTemplate:
    """What a raw clone needs. ``argv`` has a field for the descriptor of each socket, by the name of its chardev."""

    argv: list[str]
    sockets: list[str]  #: the chardevs
    state: Path


def pod_config(world: World, *words: str, memory: int = 0) -> vc.PodConfig:
    """Return a pod with one container, which executes ``words``."""
    path = vc.EnvVar("PATH", "/bin")
    container = vc.ContainerConfig(id="c", root_fs=str(world.bundle), cmd=vc.Cmd(args=words, envs=[path]))
    return vc.PodConfig(hypervisor_config=EMULATED, vm_config=Resources(memory=memory), containers=[container])


@contextmanager
def warm(world: World, memory: int = 0) -> Iterator[RawTemplate]:
    """Let pods start from templates, and yield theirs for raw clones. ``memory``: MiB of both."""
    with world.templates():
        yield _template(world, memory)


@cache
def _template(world: World, memory: int) -> RawTemplate:
    """Make the template anew, once in a run, and read the command line of a pod that was started from it."""
    config = pod_config(world, "sleep", "1000", memory=memory)
    vc.create_template(config)
    with vc.run_pod(config) as pod:
        kind, record = pod.status().template, Store.here().read(pod.id).saved_hypervisor
        assert kind, "a pod whose template exists did not start from it"
        assert record
        command = Path(f"/proc/{record['qemu'] or record['process']['pid']}/cmdline").read_bytes()
    template = Roots.from_environment().cache / "templates" / kind
    share = world.new_folder("share")
    shutil.copytree(world.bundle, share / "c", symlinks=True)
    argv = list(_raw(command.decode().split("\0")[:-1], world, template, share))
    return RawTemplate(argv, re.findall(r"socket,id=([^,]+)", " ".join(argv)), template / "state")


def _raw(argv: list[str], world: World, template: Path, share: Path) -> Iterator[str]:
    """Yield the command line of a clone with the paths of files outside of its jail, and with fields for sockets."""
    paths = {"-kernel": world.image.kernel, "-initrd": world.image.initramfs}
    option = ""
    for word in argv:
        last, option = option, word
        if word == "-S":
            continue
        if last == "-chardev" and (chardev := re.match(r"socket,id=([^,]+)", word)):
            name = chardev[1]
            yield "null,id=console" if name == "console" else f"socket,id={name},fd={{{name}}}"
        elif last == "-object":
            yield re.sub(r"mem-path=[^,]+", f"mem-path={template}/memory", word)
        elif last == "-fsdev":
            yield re.sub(r"path=[^,]+", f"path={share}", word)
        else:
            yield str(paths.get(last, word))


class Clone:
    """A raw clone whose QEMU was started at ``began`` (seconds of the monotonic clock)."""

    def __init__(self, template: RawTemplate) -> None:
        self.began = time.monotonic()
        state = os.open(template.state, os.O_RDONLY)
        ours, theirs = {}, {}
        for name in template.sockets:
            ours[name], theirs[name] = socket.socketpair()
            ours[name].settimeout(60)
        numbers = {name: sock.fileno() for name, sock in theirs.items()}
        argv = [re.sub(r"=\{(.+)\}$", lambda field: f"={numbers[field[1]]}", word) for word in template.argv]
        self.process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, pass_fds=(state, *numbers.values()), start_new_session=OWN_SESSION
        )
        os.close(state)
        for sock in theirs.values():
            sock.close()
        self._monitor, self._control, self._stream = (ours[name] for name in template.sockets)
        self._monitor.sendall(_LOAD.format(state=state).encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the VM."""
        self.process.kill()
        self.process.wait()
        for sock in (self._monitor, self._control, self._stream):
            sock.close()

    def print(self, *words: str) -> float:
        """Start a container that executes ``words``, and return the seconds since ``began`` at its first byte."""
        self.start(*words)
        output = b""
        while not output:
            sequence, output = _read(self._stream, ">QI")
            assert sequence in (0, 1, 2)
            output = output if sequence == 1 else b""
        return time.monotonic() - self.began

    def start(self, *words: str) -> None:
        """Let the VM go on when its state is loaded, wake the guest, let it mount its share, and start a container."""
        answers = b""
        while b'"completed"' not in answers:
            answers += _some(self._monitor)
            assert not re.search(rb'"failed"|"error"', answers), answers
        self._monitor.sendall(b'{"execute": "cont"}')
        self._call(_WAKE, {"time": time.time_ns(), "entropy": secrets.token_hex(64)})
        self._call(_HELLO, {"version": 1, "token": secrets.token_hex(16)})
        share = {"shareDir": "hyperShared", "liveDir": "hyperLive"}
        self._call(_STARTPOD, {"hostname": "raw", "containers": [], **share})
        process = {
            "terminal": False, "stdio": 1, "stderr": 2, "args": words, "workdir": "/", "noInput": True,
            "envs": [{"env": "PATH", "value": "/bin"}],
        }  # fmt: skip
        limits = {"capabilities": DEFAULT_CAPABILITIES, "noNewPrivs": True, "overlay": True}
        root = {"id": "c", "image": "c", "rootfs": "rootfs", "initialize": False}
        self._call(_NEWCONTAINER, {**root, **limits, "process": process})

    def _call(self, code: int, request: object) -> None:
        payload = json.dumps(request).encode()
        self._control.sendall(struct.pack(">II", code, 8 + len(payload)) + payload)
        answer = _NEXT
        while answer == _NEXT:  # the guest counts what it reads until HELLO
            answer, reason = _read(self._control, ">II")
        assert answer == _ACK, f"the guest answered {answer} to {code}: {reason!r}"


def _read(sock: socket.socket, header: str) -> tuple[int, bytes]:
    """Return the first word of the next frame's header, and its payload."""
    size = struct.calcsize(header)
    key, length = struct.unpack(header, _exactly(sock, size))
    return key, _exactly(sock, length - size)


def _exactly(sock: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        found += _some(sock, size - len(found))
    return found


def _some(sock: socket.socket, size: int = 4096) -> bytes:
    data = sock.recv(size)
    assert data, "the clone ended"
    return data
