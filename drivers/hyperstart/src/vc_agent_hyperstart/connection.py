"""Both channels to one guest: reaching it, learning which dialect it speaks, and losing it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from vc_agent_hyperstart import messages
from vc_agent_hyperstart.channel import Channel
from vc_agent_hyperstart.codec import Code, sync_marker
from vc_agent_hyperstart.control import ControlChannel, RefusedError
from vc_agent_hyperstart.messages import ProcessReport
from vc_agent_hyperstart.streams import StreamChannel
from vc_core.agent import OpenChannel
from vc_core.errors import AgentConnectError, AgentError, AgentProtocolError

#: API versions of originals that are known to speak as this driver does: 2016, and the two of 2017-18.
_API_2016, _API_LAST = 4242, 4244

#: What a guest that answers HELLO must be able to do, apart from the overlay, which needs its kernel's help.
_FEATURES = frozenset(
    (
        *("no-next", "reasons", "exec-ack", "signal", "status128", "drain", "credit", "sync", "pod-stays"),
        *("pod-root", "mounts", "no-input", "terminal-size"),
    )
)


class Dialect(msgspec.Struct, frozen=True):
    """How a guest speaks: its API version, and whether it is ours (has answered HELLO)."""

    api: int
    ours: bool = False
    overlay: bool = False

    @property
    def by_id(self) -> bool:
        """Whether processes have ids, by which later originals name them in commands and events."""
        return self.api > _API_2016 and not self.ours


class Connection:
    """The two channels to a guest.

    ``token`` names the boot's host; ``known`` is the guest's dialect if a former host has told it. ``on_event`` gets
    control frames that answer no command. ``loss`` is what ended the connection.
    """

    control: ControlChannel
    streams: StreamChannel

    def __init__(self, token: str, known: Dialect | None, on_event: Callable[[Code, bytes], None]) -> None:
        self.dialect = known
        self.loss: AgentError | None = None
        self._token = token
        self._on_event = on_event
        self._lost = asyncio.Event()
        self._open: list[Channel] = []

    async def open(self, open_channel: OpenChannel, names: Sequence[str]) -> list[ProcessReport]:
        """Reach the guest over the channels of these names and return the processes that ours reports.

        The caller sets the deadline, and closes the connection whatever happens.
        Raises AgentConnectError, AgentProtocolError.
        """
        known = self.dialect
        marker = sync_marker(bytes.fromhex(self._token)) if known and known.ours else None
        leftovers = known is not None and not known.ours
        self.control = ControlChannel(self._on_lost, self._on_event, marker, leftovers=leftovers)
        self.streams = StreamChannel(self._on_lost, marker)
        for channel, name in zip((self.control, self.streams), names, strict=True):
            self._open.append(await channel.open(await open_channel(name)))
        try:
            if marker:
                self.control.stop_counting()
                await asyncio.gather(self.control.take_over(), self.streams.take_over())
                return await self._hello()
            if known is None:
                await self.control.ready
            self.dialect = Dialect(_version(await self.control.call(Code.GETVERSION)))
        except RefusedError as refusal:
            raise AgentConnectError(f"{refusal}, so it is no guest for the agent hyperstart") from refusal
        try:
            return await self._hello() if known is None else []
        except RefusedError:
            return []  # an original

    def check(self) -> None:
        """Raise what ended the connection, if something has."""
        if self.loss is not None:
            raise type(self.loss)(str(self.loss))

    async def wait_lost(self) -> str:
        """Return what ended the connection, once something has."""
        await self._lost.wait()
        return str(self.loss)

    async def aclose(self) -> None:
        """Close both channels; the streams have last words."""
        for channel in reversed(self._open):
            await channel.aclose()

    async def _hello(self) -> list[ProcessReport]:
        payload = await self.control.call(Code.HELLO, messages.Hello(1, self._token).encode())
        reply = messages.decode("reply to HELLO", payload, messages.HelloReply)
        if missing := _FEATURES - reply.features:
            raise AgentProtocolError(f"the guest answered HELLO but lacks {', '.join(sorted(missing))}")
        numbers = [number for report in reply.processes for number in (report.stdio, report.stderr) if number]
        if len(set(numbers)) < len(numbers):
            raise AgentProtocolError("the guest answered HELLO with processes that share a stream number")
        assert self.dialect is not None
        self.dialect = Dialect(self.dialect.api, ours=True, overlay="overlay" in reply.features)
        self.control.stop_counting()
        self.streams.credit = True
        return reply.processes

    def _on_lost(self, error: AgentError) -> None:
        """Drop both channels when one of them is lost."""
        if self.loss is None:
            self.loss = error
            self._lost.set()
            for channel in self._open:
                channel.fail(error)


def _version(payload: bytes) -> int:
    """Return the API version that GETVERSION's answer tells, if this driver knows it."""
    if len(payload) != 4:
        raise AgentProtocolError(f"the guest answered GETVERSION with {len(payload)} bytes instead of 4")
    version = int.from_bytes(payload)
    if not _API_2016 <= version <= _API_LAST:
        raise AgentConnectError(
            f"the guest's hyperstart speaks API version {version}; use one of {_API_2016} to {_API_LAST}"
        )
    return version
