"""The control channel: sends one command at a time, which the guest answers with ACK or ERROR."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from vc_agent_hyperstart.channel import Channel
from vc_agent_hyperstart.codec import CONTROL, Code
from vc_agent_hyperstart.replies import Refusal, decode
from vc_core.errors import AgentError, AgentProtocolError, AgentTimeoutError, ConfigError

#: Bytes that an original guest may not have acknowledged yet (runv's figure; see :meth:`ControlChannel._push`).
_IN_FLIGHT_MAX = 512

#: What the guest is to do upon a command, for errors.
_ACTS = {
    Code.STARTPOD: "start the pod",
    Code.DESTROYPOD: "end the pod",
    Code.NEWCONTAINER: "start the container",
    Code.KILLCONTAINER: "send the signal",
    Code.REMOVECONTAINER: "remove the container",
    Code.EXECCMD: "start the command",
    Code.SIGNAL: "send the signal",
    Code.SIGNALPROCESS: "send the signal",
    Code.WINSIZE: "resize the terminal",
    Code.STATS: "measure the container",
    Code.FREEZE: "suspend or resume the container",
    Code.UPDATE: "change the limits of the container",
    Code.SYSCTLS: "set the parameters of its kernel",
    Code.CLOCK: "set its clock",
    Code.WAKE: "wake as a clone",
}


class RefusedError(AgentError):
    """The guest answered ERROR. ``reason`` may be empty; ``exit_code`` is 0 unless a program could not be executed."""

    def __init__(self, message: str, reason: str = "", exit_code: int = 0) -> None:
        super().__init__(message)
        self.reason = reason
        self.exit_code = exit_code


class ControlChannel(Channel):
    """Sends commands and waits for their answers.

    ``on_event`` is called with frames that answer no command. Until :meth:`stop_counting`, NEXT frames must add up to
    the bytes that were sent. ``leftovers``: an original may still answer a former host, so answers are dropped until
    the first that has a payload; the first command must be GETVERSION.
    """

    def __init__(
        self,
        on_lost: Callable[[AgentError], None],
        on_event: Callable[[Code, bytes], None],
        marker: bytes | None = None,
        *,
        leftovers: bool = False,
    ) -> None:
        super().__init__(CONTROL, on_lost, marker)
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self._on_event = on_event
        #: Held until a command is answered, even if its caller was cancelled.
        self._turn = asyncio.Lock()
        self._answer: asyncio.Future[bytes] | None = None
        self._backlog = memoryview(b"")
        self._sent = self._acknowledged = 0
        self._counting = True
        self._leftovers = leftovers

    async def call(self, code: Code, payload: bytes = b"", timeout: float | None = None) -> bytes:
        """Send a command and return the payload of its ACK.

        ``timeout`` is in seconds; with None the caller sets one. Raises RefusedError for ERROR, ConfigError for a
        payload that is too long, AgentTimeoutError, and the error that ended the channel.
        """
        if len(payload) + CONTROL.header.size > CONTROL.limit:
            raise ConfigError(f"{code.name} with {len(payload)} bytes is too long; {CONTROL.limit} at most")
        try:
            async with asyncio.timeout(timeout):
                return await self._exchange(code, payload)
        except TimeoutError as error:
            raise AgentTimeoutError(f"the guest did not {_act(code)} within {timeout:g} s") from error

    def stop_counting(self) -> None:
        """Treat NEXT as an error from now on. Called once the guest has answered HELLO with ``no-next``."""
        self._counting = False

    async def _exchange(self, code: Code, payload: bytes) -> bytes:
        await self._turn.acquire()
        if self.error is not None:
            self._turn.release()
            raise self.failure()
        answer: asyncio.Future[bytes] = self._loop.create_future()
        self._answer = answer
        frame = CONTROL.encode(code, payload)
        if self._counting:
            self._backlog = memoryview(frame)
            self._push()
        else:
            self._transport.write(frame)
        try:
            return await answer
        except RefusedError as refusal:
            detail = f": {refusal.reason}" if refusal.reason else ""
            raise RefusedError(f"the guest cannot {_act(code)}{detail}", refusal.reason, refusal.exit_code) from None

    def _push(self) -> None:
        """Send what the guest's buffer has room for: an original reads small pieces and acknowledges each with NEXT."""
        room = _IN_FLIGHT_MAX - (self._sent - self._acknowledged)
        part, self._backlog = self._backlog[:room], self._backlog[room:]
        if part:
            self._sent += len(part)
            self._transport.write(part)

    def _on_frame(self, key: int, payload: bytes) -> None:
        match key:
            case Code.ACK | Code.ERROR:
                self._on_answer(key, payload)
            case Code.NEXT:
                self._on_next(payload)
            case Code.READY:
                if not self.ready.done():
                    self.ready.set_result(None)
            case Code.PODFINISHED | Code.PROCESSASYNCEVENT:
                self._on_event(Code(key), payload)
            case _:
                raise AgentProtocolError(f"the guest sent a control frame of code {key}, which no guest sends")

    def _on_next(self, payload: bytes) -> None:
        if len(payload) != 4 or not self._counting:
            raise AgentProtocolError("the guest sent a NEXT frame that the protocol does not allow")
        if self._leftovers:
            return
        self._acknowledged += int.from_bytes(payload)
        if self._acknowledged > self._sent:
            raise AgentProtocolError(
                f"the guest acknowledged {self._acknowledged} bytes with NEXT, but only {self._sent} were sent"
            )
        self._push()

    def _on_answer(self, key: int, payload: bytes) -> None:
        if self._leftovers:
            if not payload:
                return
            self._leftovers = False
            self._acknowledged = self._sent
        answer, self._answer = self._answer, None
        if answer is None:
            raise AgentProtocolError(f"the guest sent {Code(key).name} although no command was waiting for an answer")
        if self._counting and (self._backlog or self._acknowledged != self._sent):
            self._answer = answer
            raise AgentProtocolError(
                f"the guest answered when it had acknowledged {self._acknowledged} of {self._sent} bytes with NEXT"
            )
        if not answer.done():
            if key == Code.ACK:
                answer.set_result(payload)
            else:
                answer.set_exception(_refusal(payload))
        self._turn.release()

    def _on_failed(self) -> None:
        if not self.ready.done():
            self.ready.set_exception(self.failure())
            self.ready.exception()  # marks it as retrieved: there need not be a waiter
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(self.failure())
        if self._turn.locked():
            self._turn.release()


def _act(code: Code) -> str:
    return _ACTS.get(code, f"answer {code.name}")


def _refusal(payload: bytes) -> RefusedError:
    """Return a decoded ERROR: JSON after HELLO, a sentence that ends in NUL from late originals, else nothing."""
    if not payload.startswith(b"{"):
        return RefusedError("", payload.rstrip(b"\0").decode(errors="replace").strip())
    refusal = decode("reason", payload, Refusal)
    return RefusedError("", refusal.reason.strip(), refusal.exit_code)
