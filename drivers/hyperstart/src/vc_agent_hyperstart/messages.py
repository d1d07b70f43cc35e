"""What the control frames' JSON says: one type per message, with exactly the keys of the protocol.

An original guest refuses unknown keys and ``null`` lists, so what is at its default is left out; fields without a
default are always sent. Numbers that name streams stay below 2^53: an original reads some of them as doubles.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeVar

import msgspec

from vc_core.agent import GuestContainer, TerminalSize
from vc_core.config import Cmd
from vc_core.errors import AgentProtocolError

#: Stream numbers are below this (hyperstart reads WINSIZE's ``seq`` as a double).
STREAM_LIMIT = 2**53

_T = TypeVar("_T")
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Stream = Annotated[int, msgspec.Meta(ge=1, lt=STREAM_LIMIT)]
_StreamOrNone = Annotated[int, msgspec.Meta(ge=0, lt=STREAM_LIMIT)]
_Status = Annotated[int, msgspec.Meta(ge=0, le=255)]


class Message(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """A request to the guest."""

    def encode(self) -> bytes:
        """Return the JSON of this request."""
        return msgspec.json.encode(self)


class Env(Message, frozen=True):
    """One environment variable."""

    env: str
    value: str


class ProcessSpec(Message, frozen=True):
    """A process to start: part of NEWCONTAINER and EXECCMD. ``id`` only from API 4243 on, all below it after HELLO."""

    terminal: bool
    stdio: int
    stderr: int
    args: Sequence[str]
    workdir: str
    envs: Sequence[Env] = ()
    user: str = ""
    group: str = ""
    additional_groups: Sequence[str] = ()
    id: str = ""
    no_input: bool = False
    rows: int = 0
    columns: int = 0

    @classmethod
    def of(
        cls,
        cmd: Cmd,
        *,
        stdio: int,
        stderr: int,
        terminal: bool = False,
        process_id: str = "",
        no_input: bool = False,
        size: TerminalSize | None = None,
    ) -> ProcessSpec:
        """Return the process that runs ``cmd``."""
        return cls(
            terminal=terminal,
            stdio=stdio,
            stderr=stderr,
            args=cmd.args,
            workdir=cmd.work_dir,
            envs=tuple(Env(env.var, env.value) for env in cmd.envs),
            user=cmd.user,
            group=cmd.group,
            additional_groups=cmd.additional_groups,
            id=process_id,
            no_input=no_input,
            rows=size.rows if size else 0,
            columns=size.columns if size else 0,
        )


class StartPod(Message, frozen=True):
    """STARTPOD. Without ``hostname`` an original never answers; an empty ``containers`` must be there.

    The pod's own ``root`` (a path below the shared directory) and the tags of the other two directories, from which
    mounts are taken, only after HELLO.
    """

    hostname: str
    containers: Sequence[NewContainer]
    share_dir: str
    root: str = ""
    live_dir: str = ""
    writable_dir: str = ""


class FileMap(Message, frozen=True):
    """A mount of NEWCONTAINER: ``source`` below the shared directory; below the writable one only after HELLO."""

    source: str
    path: str
    read_only: bool
    writable: bool = False


class NewContainer(Message, frozen=True):
    """NEWCONTAINER: ``image`` below the shared directory, ``rootfs`` below that. The overlay only after HELLO."""

    id: str
    image: str
    rootfs: str
    process: ProcessSpec
    initialize: bool
    fsmap: Sequence[FileMap] = ()
    overlay: bool = False

    @classmethod
    def of(cls, container: GuestContainer, process: ProcessSpec, *, overlay: bool) -> NewContainer:
        """Return the container with ``process`` as its first one."""
        image, _, rootfs = container.root_fs.partition("/")
        fsmap = [
            FileMap(mount.source, mount.target, mount.read_only, writable=not mount.read_only)
            for mount in container.mounts
        ]
        return cls(container.id, image, rootfs, process, False, fsmap, overlay)


class ExecCommand(Message, frozen=True):
    """EXECCMD."""

    container: str
    process: ProcessSpec


class KillContainer(Message, frozen=True):
    """KILLCONTAINER."""

    container: str
    signal: int


class RemoveContainer(Message, frozen=True):
    """REMOVECONTAINER."""

    container: str


class WinSize(Message, frozen=True):
    """WINSIZE of API 4242, and of ours."""

    seq: int
    row: int
    column: int


class WinSizeById(Message, frozen=True):
    """WINSIZE from API 4243 on."""

    container: str
    process: str
    row: int
    column: int


class SignalProcess(Message, frozen=True):
    """SIGNALPROCESS, from API 4243 on."""

    container: str
    process: str
    signal: int


class Signal(Message, frozen=True):
    """SIGNAL, after HELLO."""

    stdio: int
    signal: int


class Hello(Message, frozen=True):
    """HELLO; ``token`` is 32 hexadecimal digits."""

    version: int
    token: str


class ProcessNames(msgspec.Struct, frozen=True):
    """Which process it is and which streams are its; what :meth:`Agent.save` keeps of each."""

    container: str
    init: bool
    stdio: _Stream
    stderr: _StreamOrNone
    terminal: bool


class ProcessReport(ProcessNames, frozen=True):
    """How far a process is, as HELLO's reply tells (guest-protocol.md)."""

    ended: bool
    received: _Count
    consumed: _Count
    closed: bool
    stdout_from: _Count
    stderr_from: _Count

    def names(self) -> ProcessNames:
        """Return what of this stays the same."""
        return ProcessNames(self.container, self.init, self.stdio, self.stderr, self.terminal)


class HelloReply(msgspec.Struct, frozen=True):
    """The payload of HELLO's ACK."""

    version: int
    features: frozenset[str]
    processes: list[ProcessReport]


class Refusal(msgspec.Struct, frozen=True):
    """The payload of ERROR after HELLO."""

    reason: str = ""
    exit_code: _Status = 0


class ProcessEvent(msgspec.Struct, frozen=True):
    """PROCESSASYNCEVENT, from API 4243 on."""

    container: str
    process: Annotated[str, msgspec.Meta(pattern="^[0-9]{1,16}$")]
    event: str
    status: _Status


def decode(what: str, payload: bytes, message_type: type[_T]) -> _T:
    """Return what the guest's JSON says. Raises AgentProtocolError."""
    try:
        return msgspec.json.decode(payload, type=message_type)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise AgentProtocolError(f"the guest sent a {what} that is not valid: {clean(str(error))}") from error


def clean(text: str) -> str:
    """Return text that a guest had a hand in, fit to be shown: 1 KiB at most and without control characters."""
    return "".join(char if char.isprintable() else " " for char in text[:1024]).strip()
