"""A fake guest: the guest's end of the hyperstart protocol without a VM, which can be made to misbehave.

Written from ``guest-protocol.md`` and the protocol that it extends; of the driver it imports the numbers alone, so that
both must agree on everything else. Commands are coroutines (:data:`PROGRAMS`), not processes. Pass
:meth:`FakeHyperstart.open_channel` to an agent; afterwards ``violations`` lists what the host did against the protocol.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import struct
from collections.abc import Callable, Collection, Coroutine, Mapping
from pathlib import Path
from typing import Any, Self

from vc_agent_hyperstart.codec import Code, StreamControlType
from vc_agent_hyperstart.testing.containers import FakeContainer, refusal
from vc_agent_hyperstart.testing.keys import offences
from vc_agent_hyperstart.testing.misbehaviour import Misbehaviour, misbehave
from vc_agent_hyperstart.testing.programs import ORIGINAL_FRAME_MAX, PROGRAMS, FakeProcess, Program
from vc_agent_hyperstart.testing.wire import CONTROL, MAGIC, STREAM, Port

FEATURES = (
    "no-next", "reasons", "exec-ack", "signal", "status128", "drain", "credit", "sync", "pod-stays", "overlay",
    "pod-root", "mounts", "no-input", "terminal-size", "confinement", "stats", "isolation", "wake",
    "times", "close-output", "own-pids", "sysctls", "process-limits", "mount-options", "freeze", "update",
    "seccomp", "devices", "clock", "writable-roots",
)  # fmt: skip


#: What the guest's clock shows whenever it is asked, in ns.
FAKE_NOW = 5_000_000_000


class FakeHyperstart:
    """A guest that has booted. Use it as an async context manager.

    ``ours``: it answers HELLO; otherwise it is an original of version ``api``. ``misbehaviour`` begins with the first
    command of code ``at``; ``length`` is for BAD_*_LENGTH. ``programs`` are the commands that it can run, ``features``
    those of its answer to HELLO, ``share``, ``writable`` and ``roots`` the directories of the host that are shared with
    it. Only with ``share`` it refuses users, groups and directories that its containers do not have.
    """

    def __init__(
        self,
        *,
        ours: bool = True,
        api: int = 4242,
        misbehaviour: Misbehaviour | None = None,
        at: int = Code.GETVERSION,
        length: int = 0,
        programs: Mapping[str, Program] = PROGRAMS,
        features: Collection[str] = FEATURES,
        share: Path | None = None,
        writable: Path | None = None,
        roots: Path | None = None,
    ) -> None:
        self.extended = False  #: after HELLO
        self.woken: list[tuple[int, bytes]] = []  #: nanoseconds since the epoch and entropy of each WAKE
        self.phases: list[dict[str, object]] = []  #: for the answer to TIMES, at FAKE_NOW
        self.commands: list[tuple[int, bytes]] = []  #: every control frame of the host
        self.frames: list[tuple[int, int]] = []  #: of the stream channel: sequence and length with header
        self.violations: list[str] = []
        self.processes: dict[int, FakeProcess] = {}
        self.hostname = ""
        self.usage: dict[str, object] | None = None  #: what STATS returns instead of what is so
        self.powered_off = False
        self._ours = ours
        self._api = api
        self._misbehaviour = misbehaviour
        self._at = at
        self._misbehaving = False
        self._length = length
        self._programs = programs
        self._features = list(features)
        self._token: str | None = None
        self._pod = False
        self._containers: dict[str, FakeProcess] = {}
        self._shares = share, writable, roots
        self.kernel = {"net.ipv4.ip_default_ttl": "64"}  #: parameters of its kernel
        self.clock = 0  #: nanoseconds since the epoch, as the host has set it
        self._memory: dict[str, bytes] = {}  #: files of the pod's /dev/shm
        #: What processes are in: the pod, and containers.
        self._insides = {"": FakeContainer({}, *self._shares, self.kernel, self._memory)}
        self._late: list[tuple[int, bytes]] = []
        self._background: list[asyncio.Task[None]] = []
        self.control = Port(">II", self._on_command, self._on_control_bytes, lambda: None, self.violations.append)
        self.stream = Port(">QI", self._on_stream, lambda size: None, self._hold_all, self.violations.append)
        if misbehaviour is not Misbehaviour.NEVER_READY:
            self.control.send(Code.READY)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        tasks = [process.task for process in self.processes.values()] + self._background
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.power_off()
        await self.control.closed()
        await self.stream.closed()

    async def open_channel(self, name: str) -> socket.socket:
        """Return a connected socket to a channel, once an earlier host has left. An agent's ``open_channel``."""
        sock = await {CONTROL: self.control, STREAM: self.stream}[name].connect()
        if self._misbehaviour is Misbehaviour.EOF_AFTER_READY:
            self.power_off()
        return sock

    def power_off(self) -> None:
        """Close both channels, like the end of a VM."""
        self.powered_off = True
        self.control.close()
        self.stream.close()

    def in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine in a task that is cancelled at the guest's end."""
        self._background.append(asyncio.get_running_loop().create_task(work))

    # Commands.

    def _on_control_bytes(self, size: int) -> None:
        """Acknowledge bytes in pieces of a header's size, as an original does."""
        while size and not self.extended:
            part = min(size, 8)
            size -= part
            wrong = self._does(Misbehaviour.BAD_NEXT)
            if not self._does(Misbehaviour.NO_NEXT):
                self.control.send(Code.NEXT, struct.pack(">I", part + wrong))

    def _does(self, misbehaviour: Misbehaviour) -> bool:
        """Return whether the guest misbehaves in that way by now."""
        return self._misbehaving and self._misbehaviour is misbehaviour

    def _on_command(self, code: int, payload: bytes) -> None:
        self.commands.append((code, payload))
        self._misbehaving = self._misbehaving or (self._misbehaviour is not None and code == self._at)
        if self._does(Misbehaviour.LATE):
            self._late.append((code, payload))
        elif not (self._misbehaving and self._misbehaviour and misbehave(self, self._misbehaviour, self._length)):
            self._obey(code, payload)

    def catch_up(self) -> None:
        """Execute the commands that a LATE guest has received, and delay no more."""
        self._misbehaviour = None
        for code, payload in self._late:
            self._obey(code, payload)

    def _obey(self, code: int, payload: bytes) -> None:
        handlers: dict[int, Callable[[bytes], None]] = {
            Code.GETVERSION: self._get_version,
            Code.STARTPOD: self._start_pod,
            Code.DESTROYPOD: self._destroy_pod,
            Code.EXECCMD: self._exec,
            Code.WINSIZE: self._winsize,
            Code.PING: self._acknowledge,
            Code.NEWCONTAINER: self._new_container,
            Code.KILLCONTAINER: self._kill_container,
            Code.REMOVECONTAINER: self._remove_container,
            Code.SIGNALPROCESS: self._signal_process,
            Code.HELLO: self._hello,
            Code.SIGNAL: self._signal,
            Code.STATS: self._stats,
            Code.WAKE: self._wake,
            Code.TIMES: self._times,
            Code.SYSCTLS: self._sysctls,
            Code.CLOCK: self._clock,
            Code.FREEZE: self._freeze,
            Code.UPDATE: self._update,
        }
        if code not in handlers:
            self._refuse(f"no command has the code {code}")
            return
        try:
            handlers[code](payload)
        except (KeyError, ValueError, TypeError) as error:
            self.violations.append(f"command {code} with {payload[:200]!r}: {error!r}")
            self._refuse("the command cannot be read")
        if self._does(Misbehaviour.DOUBLE_REPLY):
            self._answer()

    def _answer(self, payload: bytes = b"") -> None:
        self.control.send(Code.ACK, payload)

    def _refuse(self, reason: str, exit_code: int = 0) -> None:
        if self.extended:
            refusal = {"reason": reason} | ({"exit_code": exit_code} if exit_code else {})
            self.control.send(Code.ERROR, json.dumps(refusal).encode())
        else:
            self.control.send(Code.ERROR)

    def _get_version(self, payload: bytes) -> None:
        self._answer(struct.pack(">I", self._api))

    def _acknowledge(self, payload: bytes) -> None:
        self._answer()

    def _stats(self, payload: bytes) -> None:
        container = json.loads(payload)["container"]
        if not self.extended or container not in self._containers:
            self._refuse("there is no such container")
            return
        running = [one for one in self.processes.values() if one.container == container and one.status is None]
        worked = self._insides[container].worked
        usage = {"cpu": worked, "memory": len(running) << 20, "pids": len(running), "read": 0, "written": 0}
        if limit := self._insides[container].memory_limit:
            usage["memoryLimit"] = limit << 20
        self._answer(json.dumps(usage if self.usage is None else self.usage).encode())

    def _load(self, kind: str, payload: bytes) -> dict[str, Any]:
        """Return a decoded payload. Raises ValueError for keys that this guest does not support."""
        found: dict[str, Any] = json.loads(payload)
        for offence in offences(kind, found, api=self._api, extended=self.extended):
            raise ValueError(offence)
        return found

    def _hello(self, payload: bytes) -> None:
        hello = json.loads(payload)
        if not self._ours or self._token not in (None, hello["token"]) or len(hello["token"]) != 32:
            self._refuse("the token is not the boot's")
            return
        self._token = hello["token"]
        self.control.marker = self.stream.marker = MAGIC + bytes.fromhex(hello["token"])
        self.extended = True
        reply = {
            "version": 1,
            "features": self._features,
            "processes": [process.report() for process in self.processes.values()],
        }
        self._answer(json.dumps(reply).encode())

    def _wake(self, payload: bytes) -> None:
        if not self._ours or self.extended:
            self._refuse("WAKE must come before HELLO")
            return
        given = json.loads(payload)
        self.woken.append((given["time"], bytes.fromhex(given["entropy"])))
        self._answer()

    def _times(self, payload: bytes) -> None:
        if not self.extended:
            self._refuse("TIMES comes after HELLO")
            return
        phases, self.phases = self.phases, []
        self._answer(json.dumps({"now": FAKE_NOW, "phases": phases}).encode())

    def _freeze(self, payload: bytes) -> None:
        asked = self._load("freeze", payload)
        if asked["container"] not in self._containers:
            self._refuse("there is no such container")
            return
        self._insides[asked["container"]].frozen = asked["frozen"]
        self._answer()

    def _update(self, payload: bytes) -> None:
        asked = self._load("update", payload)
        if asked["container"] not in self._containers:
            self._refuse("there is no such container")
            return
        inside = self._insides[asked["container"]]
        inside.memory_limit = asked.get("memory", inside.memory_limit)
        self._answer()

    def _clock(self, payload: bytes) -> None:
        self.clock = self._load("clock", payload)["time"]
        self._answer()

    def _sysctls(self, payload: bytes) -> None:
        for name, value in self._load("sysctls", payload)["sysctl"].items():
            if name not in self.kernel:
                self._refuse(f"sysctl {name!r}: No such file or directory")
                return
            self.kernel[name] = value
        self._answer()

    def _start_pod(self, payload: bytes) -> None:
        pod = self._load("pod", payload)
        if not pod["hostname"] or pod["containers"]:
            raise ValueError("hostname must be there, and containers empty")
        if self._pod:
            self._refuse("the pod has started")
            return
        self._pod = True
        self.hostname = pod["hostname"]
        self._answer()

    def _destroy_pod(self, payload: bytes) -> None:
        for process in self.processes.values():
            process.kill(signal.SIGTERM)
        self._answer()
        self.power_off()

    def _new_container(self, payload: bytes) -> None:
        container = self._load("container", payload)
        if container["initialize"] is not False or not (container["image"] or container.get("addr")):
            raise ValueError("initialize must be false, and image not empty")
        if not self._pod or container["id"] in self._containers:
            self._refuse("there is no pod, or the container exists")
            return
        self._insides[container["id"]] = FakeContainer(container, *self._shares, self.kernel, self._memory)
        self._run(container["id"], container["process"], init=True)

    def _exec(self, payload: bytes) -> None:
        command = self._load("exec", payload)
        self._run(command["container"], command["process"], init=False)

    @property
    def _by_id(self) -> bool:
        """Whether commands name processes by id, as with late originals."""
        return self._api > 4242 and not self.extended

    def _can_enter(self, container: str) -> bool:
        """Return whether commands can run in a container, or in the pod itself if this guest supports that."""
        pod = "" if self.extended else "hyperstart" if self._by_id else None
        return container in self._containers or (self._pod and container == pod)

    def _run(self, container: str, spec: dict[str, Any], *, init: bool) -> None:
        if self._by_id and spec["id"] != str(spec["stdio"]):
            raise ValueError("this guest's processes are found by id")
        numbers = [number for number in (spec["stdio"], spec["stderr"]) if number]
        used = {number for process in self.processes.values() for number in (process.stdio, process.stderr.sequence)}
        if len(set(numbers)) < 1 + (not spec["terminal"]) or used & set(numbers) or max(numbers) >= 2**53:
            raise ValueError("stream numbers must be unique, below 2^53, and stderr not 0 without a terminal")
        program = self._programs.get(spec["args"][0])
        problem = 0 if program else 127
        inside = self._insides.get(container) or self._insides[""]  # originals have another name for the pod itself
        if not init and (not self._can_enter(container) or inside.frozen):
            problem = 125
        if problem and self.extended:
            self._refuse(f"{spec['args'][0]} cannot be run", problem)
            return
        if self._shares[0] is not None and (reason := refusal(spec)):
            self._refuse(reason, 125)
            return
        process = FakeProcess(self, container, inside, spec, init=init)
        self.processes[process.stdio] = process
        if init:
            self._containers[container] = process
        self._answer()
        process.task = asyncio.get_running_loop().create_task(self._live(process, program, problem))

    async def _live(self, process: FakeProcess, program: Program | None, problem: int) -> None:
        status = problem
        try:
            if program is None:
                await process.write_error(b"exec failed: No such file or directory\n")
            elif not problem:
                status = await program(process)
        except asyncio.CancelledError:
            if not process.killed_by:
                raise
            status = process.handled.get(process.killed_by, 128 + process.killed_by) if self.extended else 0
        process.status = status
        self._finish(process)

    def _finish(self, process: FakeProcess) -> None:
        """Send a process' status if it has ended and its output was sent."""
        if process.status is None or not (process.stdout.drained and process.stderr.drained):
            return
        self.stream.send(process.stdio)
        if self._does(Misbehaviour.DATA_AFTER_END):
            self.stream.send(process.stdio, b"more")
        if self._does(Misbehaviour.EOF_BEFORE_STATUS):
            self.power_off()
            return
        if self.extended:
            self.stream.send(process.stdio, bytes([process.status]))
            return
        del self.processes[process.stdio]
        if self._by_id:
            if process.init:
                del self._containers[process.container]
            event = {"container": process.container, "process": str(process.stdio), "event": "finished"}
            self.control.send(Code.PROCESSASYNCEVENT, json.dumps(event | {"status": process.status}).encode())
            return
        self.stream.send(process.stdio, bytes([process.status]))
        if process.init and all(other.status is not None for other in self._containers.values()):
            statuses = [other.status or 0 for other in self._containers.values()]
            self.control.send(Code.PODFINISHED, struct.pack(f">{len(statuses)}I", *statuses))
            self._pod = False
            self._containers.clear()

    def _winsize(self, payload: bytes) -> None:
        size = json.loads(payload)
        process = self.processes.get(int(size["process"]) if self._by_id else size["seq"])
        if process is not None:
            process.size = (size["row"], size["column"])
            process.resized.set()
        self._answer()

    def _kill_container(self, payload: bytes) -> None:
        request = json.loads(payload)
        self._kill(self._containers.get(request["container"]), request)

    def _signal_process(self, payload: bytes) -> None:
        request = json.loads(payload)
        self._kill(self.processes.get(int(request["process"])) if self._by_id else None, request)

    def _signal(self, payload: bytes) -> None:
        request = json.loads(payload)
        self._kill(self.processes.get(request["stdio"]) if self.extended else None, request)

    def _kill(self, process: FakeProcess | None, request: dict[str, Any]) -> None:
        if not isinstance(request["signal"], int):
            raise ValueError("the signal must be a number")
        if process is None:
            self._refuse("there is nothing of that name to signal")
            return
        process.kill(request["signal"])
        self._answer()

    def _remove_container(self, payload: bytes) -> None:
        container = json.loads(payload)["container"]
        process = self._containers.get(container)
        if process is None or process.status is None:
            self._refuse("the container runs, or there is none")
            return
        del self._containers[container]
        self.processes.pop(process.stdio, None)
        self._answer()

    # Streams.

    def stream_control(self, kind: int, stream: int, value: int) -> None:
        """Send a stream control frame."""
        if self._does(Misbehaviour.BAD_CREDIT):
            value += 1 << 40
        self.stream.send(0, struct.pack(">BQQ", kind, stream, value))

    def _hold_all(self) -> None:
        """Make every stream wait for RESUME, after a takeover."""
        for process in self.processes.values():
            process.stdout.waits = process.stderr.waits = True

    def _on_stream(self, sequence: int, payload: bytes) -> None:
        self.frames.append((sequence, len(payload) + 12))
        if sequence == 0 and self.extended:
            self._on_stream_control(*struct.unpack(">BQQ", payload))
        elif (process := self.processes.get(sequence)) is not None:
            process.take_input(payload)
        elif not self.extended:
            self.stream.send(sequence)
        if not self.extended and len(payload) + 12 > ORIGINAL_FRAME_MAX:
            self.power_off()

    def _on_stream_control(self, kind: int, stream: int, value: int) -> None:
        for process in list(self.processes.values()):
            output = {process.stderr.sequence: process.stderr, process.stdio: process.stdout}.get(stream)
            if output is None:
                continue
            match kind:
                case StreamControlType.CREDIT:
                    output.credit(value)
                case StreamControlType.CLOSE:
                    output.close()
                    self._finish(process)
                case StreamControlType.RELEASE:
                    if process.status is not None:
                        del self.processes[stream]
                case StreamControlType.RESUME:
                    if output is process.stdout and process.stderr.waits:
                        process.stderr.discard()
                    output.resume(value)
                    if output is process.stdout:
                        self._finish(process)
