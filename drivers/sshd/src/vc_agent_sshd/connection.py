"""The SSH connection: made with given keys and nothing of the user's own, and made again when it was lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import asyncssh

from vc_agent_sshd.keys import Keys
from vc_core.errors import AgentConnectError, AgentTimeoutError, HypervisorError

#: Seconds between two attempts to connect: until the guest's daemon listens, each ends at once.
_PAUSE = 0.1

#: Seconds for greeting, key exchange and login, once a server answers; emulated guests take one.
_LOGIN_DEADLINE = 30.0

#: Seconds of silence after which a server is asked whether it is there, and how often before it is given up.
_KEEPALIVE = (15, 3)

#: Bytes of output of one session that may be on their way (the window of RFC 4254, section 5.2).
WINDOW = 256 * 1024

# At INFO asyncssh logs several lines for each session, with the command line: that is for nobody's log, because
# variables and arguments may be secrets. Who sets another level before gets it.
if (_asyncssh_log := logging.getLogger("asyncssh")).level == logging.NOTSET:
    _asyncssh_log.setLevel(logging.WARNING)

#: Returns the arguments of ``asyncssh.connect`` that say where to: a connected socket, or an address.
Dial = Callable[[], Awaitable[dict[str, Any]]]


class Connection:
    """One connection at a time to one server.

    ``what`` names the server in errors. ``keepalive``: whether silence means that the server is gone; not for a VM,
    which may be paused.
    """

    def __init__(self, what: str, user: str, dial: Dial, keys: Callable[[], Keys], *, keepalive: bool) -> None:
        self._what, self._user, self._dial, self._keys, self._keepalive = what, user, dial, keys, keepalive
        self._ssh: asyncssh.SSHClientConnection | None = None
        self._lock = asyncio.Lock()
        self._closed = asyncio.Event()
        #: Called each time the connection was lost, not when it was closed by us.
        self.on_lost: Callable[[], None] = lambda: None

    @property
    def alive(self) -> bool:
        """Whether there is a connection."""
        return self._ssh is not None

    async def open(self, deadline: float) -> asyncssh.SSHClientConnection:
        """Return the connection, made anew if there is none.

        Attempts go on until the server answers, or the deadline. Raises AgentConnectError, AgentTimeoutError,
        ConfigError.
        """
        async with self._lock:
            self._check_open()
            if self._ssh is None:
                self._ssh = await self._connect(deadline)
            return self._ssh

    async def aclose(self) -> None:
        """Close the connection; it is not made again."""
        self._closed.set()
        if (ssh := self._ssh) is not None:
            ssh.close()
            await ssh.wait_closed()

    def lost(self, ssh: asyncssh.SSHClientConnection, error: Exception | None) -> None:
        """Note that a connection has ended."""
        if ssh is self._ssh:
            self._ssh = None
            if not self._closed.is_set():
                self.on_lost()

    async def _connect(self, deadline: float) -> asyncssh.SSHClientConnection:
        last = "nothing answered"
        try:
            async with asyncio.timeout(deadline):
                while True:
                    try:
                        return await self._attempt()
                    except (OSError, asyncssh.ConnectionLost, asyncssh.ProtocolError, HypervisorError) as error:
                        # Nobody listens yet, or QEMU took the connection and found nobody to pass it on to.
                        last = str(error) or type(error).__name__
                    await self._pause()
        except TimeoutError as error:
            raise AgentTimeoutError(
                f"{self._what} let nobody in by SSH within {deadline:g} s; its last answer: {last}"
            ) from error

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PAUSE):
                await self._closed.wait()
        self._check_open()

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise AgentConnectError(f"the connection to {self._what} was closed")

    async def _attempt(self) -> asyncssh.SSHClientConnection:
        keys = self._keys()
        options = asyncssh.SSHClientConnectionOptions(
            client_factory=lambda: _Client(self),
            username=self._user,
            client_keys=[keys.client],
            known_hosts=(list(keys.host), [], []),
            # Nothing of the user's own: no configuration, agent, passwords or tickets.
            config=None,
            agent_path=None,
            agent_forwarding=False,
            password=None,
            preferred_auth="publickey",
            gss_host=None,
            x509_trusted_certs=None,
            send_env=[],
            compression_algs=None,
            login_timeout=_LOGIN_DEADLINE,
            keepalive_interval=_KEEPALIVE[0] if self._keepalive else 0,
            keepalive_count_max=_KEEPALIVE[1],
        )
        try:
            return await asyncssh.connect(**await self._dial(), config=None, options=options)
        except asyncssh.HostKeyNotVerifiable as error:
            raise AgentConnectError(f"{self._what} has not the host key that it must have: {error.reason}") from error
        except asyncssh.KeyExchangeFailed as error:
            raise AgentConnectError(
                f"{self._what} has no host key of the kind that it must have: {error.reason}"
            ) from error
        except asyncssh.PermissionDenied as error:
            raise AgentConnectError(
                f"{self._what} does not let {self._user!r} in with the private key: {error.reason}"
            ) from error
        except asyncssh.ProtocolNotSupported as error:
            raise AgentConnectError(f"{self._what} speaks another protocol than SSH 2: {error.reason}") from error


class _Client(asyncssh.SSHClient):
    """Tells a Connection of its end."""

    def __init__(self, owner: Connection) -> None:
        self._owner = owner
        self._ssh: asyncssh.SSHClientConnection | None = None

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        """Note whose end this will tell."""
        self._ssh = conn

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on the end."""
        if self._ssh is not None:
            self._owner.lost(self._ssh, exc)
