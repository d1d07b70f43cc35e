"""Runs shell lines in one pod's guest, each in an SSH session of its own and within a time limit."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from vc_agent_sshd import shell
from vc_core.driver import TerminalSize
from vc_core.errors import AgentConnectError, AgentError, AgentTimeoutError, VCError

if TYPE_CHECKING:
    import asyncssh

    from vc_agent_sshd.connection import Connection
    from vc_agent_sshd.session import Session

_T = TypeVar("_T")

#: Seconds for a call that no caller waits for, such as the removal of a container whose start was cancelled.
UNATTENDED_TIMEOUT = 10.0

#: Seconds in which a daemon that refuses a session is asked again: others end, and one that has just ended may count
#: still.
_SESSION_TIMEOUT = 2.0


class SessionRefusedError(AgentError):
    """The guest's daemon opens no further session of a connection that lives."""


class Calls:
    """Runs shell lines over the agent's connection, and owns the tasks that this takes.

    ``home`` is the pod's directory in the guest, with the scripts. The agent sets ``connection`` in its ``connect``.
    """

    def __init__(self, pod_id: str, home: str) -> None:
        self.home = home
        self.connection: Connection | None = None
        self._pod_id = pod_id
        self._tasks: set[asyncio.Task[Any]] = set()

    def connected(self) -> Connection:
        """Return the connection. Raises AgentConnectError before ``connect``."""
        if self.connection is None:
            raise AgentConnectError(f"the agent of pod {self._pod_id!r} is not connected")
        return self.connection

    def spawn(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Return a new task, which :meth:`aclose` cancels if it still runs."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def aclose(self) -> None:
        """Cancel all tasks and wait for their ends. The caller closes the connection before."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def script_line(self, *words: str) -> str:
        """Return the line that runs containers.sh with these arguments. Raises ConfigError if it is too long."""
        return shell.line(["sh", f"{self.home}/containers.sh", *words])

    async def run_script(self, timeout: float, *words: str) -> str:
        """Run containers.sh with these arguments, the first of which is its command; return what it prints.

        ``timeout`` is in seconds. Raises AgentError with the guest's reason, SessionRefusedError, AgentTimeoutError,
        AgentConnectError.
        """
        return await self.run(words[0], self.script_line(*words), timeout)

    async def run(self, what: str, line: str, timeout: float) -> str:
        """Run a line and return what it prints; ``what`` names it in errors.

        ``timeout`` is in seconds. Raises AgentError with the guest's reason, SessionRefusedError, AgentTimeoutError,
        AgentConnectError.
        """
        session: Session | None = None
        began = time.monotonic()
        ssh = await self.connected().open(timeout)
        try:
            async with asyncio.timeout(timeout - (time.monotonic() - began)):
                session = await self._open_session(ssh, what, line, None)
                output, error_output = await asyncio.gather(session.output(), session.error_output())
                code = await session.wait()
        except TimeoutError as error:
            if isinstance(error, VCError):
                raise
            raise AgentTimeoutError(f"the guest did not complete {what} within {timeout:g} s") from error
        finally:
            if session is not None:
                session.close()
        if code:
            raise AgentError(f"{what} failed in the guest: {failure(error_output)[1] or f'exit code {code}'}")
        return output.decode(errors="replace")

    async def begin(
        self,
        what: str,
        line: str,
        timeout: float,
        undo: Callable[[str], Awaitable[object]] | None,
        terminal: TerminalSize | None = None,
    ) -> tuple[Session, str]:
        """Start a line that runs on; return its session and the first line of its output.

        ``undo`` is called with that first line if the line still starts after this call was cancelled or has timed
        out. ``timeout`` is in seconds. Raises SessionRefusedError, AgentTimeoutError, AgentConnectError,
        AgentProtocolError.
        """
        starting = self.spawn(self._start_session(what, line, timeout, terminal))
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.shield(starting)
        except BaseException as error:
            self.spawn(self._abandon(starting, undo))
            if isinstance(error, TimeoutError) and not isinstance(error, VCError):
                raise AgentTimeoutError(f"the guest did not start {what} within {timeout:g} s") from error
            raise

    async def _start_session(
        self, what: str, line: str, timeout: float, terminal: TerminalSize | None
    ) -> tuple[Session, str]:
        ssh = await self.connected().open(timeout)
        session = await self._open_session(ssh, what, line, terminal)
        try:
            return session, await session.first_line()
        except BaseException:
            session.close()
            raise

    async def _open_session(
        self, ssh: asyncssh.SSHClientConnection, what: str, line: str, terminal: TerminalSize | None
    ) -> Session:
        """Run a line in a new session. One that this call no longer waits for is closed once it is open.

        asyncssh keeps the channel of a cancelled call open, and daemons limit the number of channels.
        """
        from vc_agent_sshd.session import Session  # imports asyncssh, see agent.py

        deadline = time.monotonic() + _SESSION_TIMEOUT
        while True:
            opening = self.spawn(Session.start(ssh, what, line, terminal))
            try:
                return await asyncio.shield(opening)
            except asyncio.CancelledError:
                opening.add_done_callback(_close)
                raise
            except SessionRefusedError:
                if time.monotonic() >= deadline:
                    raise
            await self.connected().pause()

    async def _abandon(
        self, starting: asyncio.Task[tuple[Session, str]], undo: Callable[[str], Awaitable[object]] | None
    ) -> None:
        """Undo a start that nothing waits for any more, once it is complete."""
        with contextlib.suppress(VCError, TimeoutError):
            async with asyncio.timeout(UNATTENDED_TIMEOUT):
                session, first = await starting
                session.close()
                if undo is not None:
                    await undo(first)


def _close(opening: asyncio.Task[Session]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def failure(text: str) -> tuple[int | None, str]:
    """Return the exit code and the reason in a failure that the guest reports: "error CODE reason", or any text."""
    word, _, rest = text.partition(" ")
    code, _, reason = rest.partition(" ")
    if word == "error" and code in ("125", "126", "127"):
        return int(code), reason
    return None, text
