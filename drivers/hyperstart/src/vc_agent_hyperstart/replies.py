"""Replies and events of a guest, with the types that validate them."""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec

from vc_agent_hyperstart.requests import STREAM_LIMIT
from vc_core.driver import decode_json
from vc_core.errors import AgentProtocolError

_T = TypeVar("_T")
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Stream = Annotated[int, msgspec.Meta(ge=1, lt=STREAM_LIMIT)]
_StreamOrNone = Annotated[int, msgspec.Meta(ge=0, lt=STREAM_LIMIT)]
_Status = Annotated[int, msgspec.Meta(ge=0, le=255)]


class ProcessNames(msgspec.Struct, frozen=True):
    """A process' container and streams; what :meth:`Agent.save` returns for each."""

    container: str
    init: bool
    stdio: _Stream
    stderr: _StreamOrNone
    terminal: bool


class ProcessReport(ProcessNames, frozen=True):
    """The state of a process in HELLO's reply (guest-protocol.md)."""

    ended: bool
    received: _Count
    consumed: _Count
    closed: bool
    stdout_from: _Count
    stderr_from: _Count

    def names(self) -> ProcessNames:
        """Return the part that does not change while the process runs."""
        return ProcessNames(self.container, self.init, self.stdio, self.stderr, self.terminal)


class HelloReply(msgspec.Struct, frozen=True):
    """The payload of HELLO's ACK."""

    version: int
    features: frozenset[str]
    processes: list[ProcessReport]


class StatsReply(msgspec.Struct, frozen=True, rename="camel"):
    """The payload of STATS' ACK: nanoseconds and bytes."""

    cpu: _Count | None = None
    memory: _Count | None = None
    memory_limit: _Count | None = None
    pids: _Count | None = None
    read: _Count | None = None
    written: _Count | None = None
    memory_inactive: _Count | None = None
    memory_cache: _Count | None = None
    oom_kills: _Count | None = None


class Phase(msgspec.Struct, frozen=True):
    """What the guest did from ``begin`` to ``end``, in nanoseconds of its clock."""

    name: Annotated[str, msgspec.Meta(pattern="^[a-z ]{1,40}$")]
    begin: _Count
    end: _Count


class TimesReply(msgspec.Struct, frozen=True):
    """The payload of TIMES' ACK. ``now`` is when the guest sent it."""

    now: _Count
    phases: Annotated[list[Phase], msgspec.Meta(max_length=64)]


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
    """Return decoded and validated JSON of the guest; ``what`` names it in errors. Raises AgentProtocolError."""
    try:
        return decode_json(payload, message_type)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise AgentProtocolError(f"the guest sent a {what} that is not valid: {error}") from error
