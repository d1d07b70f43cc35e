"""Both channels to one guest: opening them, finding out the guest's dialect, and their loss."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence

from vc_agent_hyperstart.channel import Channel
from vc_agent_hyperstart.codec import Code, sync_marker
from vc_agent_hyperstart.control import ControlChannel, RefusedError
from vc_agent_hyperstart.dialect import API_2016, API_2018, OPTIONAL, REQUIRED, Dialect
from vc_agent_hyperstart.replies import HelloReply, ProcessReport, decode
from vc_agent_hyperstart.requests import GetVersion, Hello, Request, Wake, check
from vc_agent_hyperstart.streams import StreamChannel
from vc_core.driver import OpenChannel
from vc_core.errors import AgentConnectError, AgentError, AgentProtocolError, NotSupportedError


class Connection:
    """The two channels to the guest of a pod, named ``pod_id`` in errors.

    ``token`` is what all hosts of one boot send in HELLO; ``dialect`` is the guest's if a former host has saved it.
    ``on_event`` is called with control frames that answer no command. ``loss`` is the error that ended the connection.
    ``dialect_or_none`` is :attr:`dialect` once the guest has answered.
    """

    control: ControlChannel
    streams: StreamChannel

    def __init__(
        self, pod_id: str, token: str, dialect: Dialect | None, on_event: Callable[[Code, bytes], None]
    ) -> None:
        self.pod_id = pod_id
        self.dialect_or_none = dialect
        self.loss: AgentError | None = None
        self._token = token
        self._on_event = on_event
        self._lost = asyncio.Event()
        self._open: list[Channel] = []

    @property
    def dialect(self) -> Dialect:
        """The guest's dialect. Raises AgentError before the guest has answered, and after the connection was lost."""
        self.check()
        if self.dialect_or_none is None:
            raise AgentConnectError(f"the guest of pod {self.pod_id!r} has not answered yet")
        return self.dialect_or_none

    async def call(self, request: Request, timeout: float, what: str = "") -> bytes:
        """Send a request and return the payload of its ACK; ``what`` names in errors what it is for.

        ``timeout`` is in seconds. Raises NotSupportedError for what the guest's dialect lacks, RefusedError for ERROR,
        ConfigError for a request that is too long, AgentTimeoutError, and the error that ended the connection.
        """
        check(request, self.dialect, what or f"pod {self.pod_id!r}")
        return await self.control.call(request.code, request.encode(), timeout)

    async def open(
        self, open_channel: OpenChannel, names: Sequence[str], *, clone: bool = False
    ) -> list[ProcessReport]:
        """Open the channels of these names and find out the dialect; return the processes that the guest reports.

        ``clone``: the guest is a clone, which has sent READY before it was saved and must be woken. The caller sets
        the timeout, and calls :meth:`aclose` even if this raises. Raises AgentConnectError,
        AgentProtocolError, and what ``open_channel`` raises.
        """
        saved = self.dialect_or_none
        marker = sync_marker(bytes.fromhex(self._token)) if saved and saved.ours else None
        leftovers = saved is not None and not saved.ours
        self.control = ControlChannel(self._on_lost, self._on_event, marker, leftovers=leftovers)
        self.streams = StreamChannel(self._on_lost, marker)
        for channel, name in zip((self.control, self.streams), names, strict=True):
            self._open.append(await channel.open(await open_channel(name)))
        try:
            if marker:
                self.control.stop_counting()
                await asyncio.gather(self.control.take_over(), self.streams.take_over())
                return await self._hello()
            if clone:
                await self._wake()
                # Who can be woken answers HELLO, after which the version makes no difference: it is not asked for.
                self.dialect_or_none = Dialect(API_2016)
                return await self._hello()
            if saved is None:
                await self.control.ready
            self.dialect_or_none = Dialect(_version(await self.control.call(GetVersion.code)))
        except RefusedError as refusal:
            raise AgentConnectError(f"{refusal}, so the agent hyperstart cannot use this guest") from refusal
        try:
            return await self._hello() if saved is None else []
        except RefusedError:
            return []  # an original

    async def settle(self, open_channel: OpenChannel, name: str) -> None:
        """Wait until a guest that boots is ready, and check that its clones can be woken. Opens one channel only.

        The caller sets the timeout, and calls :meth:`aclose` even if this raises. Raises NotSupportedError for an
        original, AgentConnectError, AgentProtocolError, and what ``open_channel`` raises.
        """
        self.control = ControlChannel(self._on_lost, self._on_event)
        self._open.append(await self.control.open(await open_channel(name)))
        await self.control.ready
        try:
            await self._wake()
        except RefusedError as refusal:
            raise NotSupportedError(f"clones of this guest cannot be woken: {refusal}") from refusal

    async def _wake(self) -> None:
        """Give the guest what no clone may have in common with others. Raises RefusedError, AgentError."""
        await self.control.call(Wake.code, Wake(time.time_ns(), secrets.token_hex(64)).encode())

    @property
    def connected(self) -> bool:
        """Whether both channels were opened, even if they were lost since."""
        return len(self._open) == 2

    def check_connected(self) -> None:
        """Raise AgentConnectError before both channels were opened."""
        if not self.connected:
            raise AgentConnectError(f"the agent of pod {self.pod_id!r} is not connected")

    def check(self) -> None:
        """Raise the error that ended the connection, or AgentConnectError before there was one."""
        if self.loss is not None:
            raise type(self.loss)(str(self.loss))
        self.check_connected()

    async def wait_lost(self) -> str:
        """Return why the connection was lost, once it is. Raises AgentConnectError before there was one."""
        self.check_connected()
        await self._lost.wait()
        return str(self.loss)

    async def aclose(self) -> None:
        """Close both channels, the stream channel after it has sent what waits."""
        for channel in reversed(self._open):
            await channel.aclose()

    async def _hello(self) -> list[ProcessReport]:
        payload = await self.control.call(Hello.code, Hello(1, self._token).encode())
        reply = decode("reply to HELLO", payload, HelloReply)
        if missing := REQUIRED - reply.features:
            raise AgentProtocolError(f"the guest answered HELLO but lacks {', '.join(sorted(missing))}")
        numbers = [number for report in reply.processes for number in (report.stdio, report.stderr) if number]
        if len(set(numbers)) < len(numbers):
            raise AgentProtocolError("the guest answered HELLO with processes that share a stream number")
        assert self.dialect_or_none is not None
        self.dialect_or_none = Dialect(self.dialect_or_none.api, reply.features & (REQUIRED | OPTIONAL))
        self.control.stop_counting()
        self.streams.credit = True
        return reply.processes

    def _on_lost(self, error: AgentError) -> None:
        """Fail both channels when one of them is lost."""
        if self.loss is None:
            self.loss = error
            self._lost.set()
            for channel in self._open:
                channel.fail(error)


def _version(payload: bytes) -> int:
    """Return the API version in an answer to GETVERSION. Raises AgentProtocolError, AgentConnectError."""
    if len(payload) != 4:
        raise AgentProtocolError(f"the guest answered GETVERSION with {len(payload)} bytes instead of 4")
    version = int.from_bytes(payload)
    if not API_2016 <= version <= API_2018:
        raise AgentConnectError(
            f"the guest's hyperstart speaks API version {version}; use one of {API_2016} to {API_2018}"
        )
    return version
