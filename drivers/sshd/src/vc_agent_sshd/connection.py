"""The SSH connection, which uses the given keys and no settings of the user, and is made again after a loss."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import asyncssh

from vc_agent_sshd.keys import Keys
from vc_core.errors import AgentConnectError, AgentTimeoutError, HypervisorError

#: Seconds between two attempts. To connect: until the guest's daemon listens, each fails at once, and takes 2 ms.
_PAUSE = 0.03

#: Seconds for key exchange and login, once a server accepts the connection; an emulated guest needs one.
_LOGIN_TIMEOUT = 30.0

#: Seconds without traffic after which a server is probed, and the number of unanswered probes that end a connection.
_KEEPALIVE = (15, 3)

#: Bytes of one session's output that the server may send unread (the window of RFC 4254, section 5.2).
WINDOW = 256 * 1024

# At INFO asyncssh logs several lines for each session, with the command line. Variables and arguments may be secrets,
# so they are logged only if a program has set a level for asyncssh.
if (_asyncssh_log := logging.getLogger("asyncssh")).level == logging.NOTSET:
    _asyncssh_log.setLevel(logging.WARNING)

#: Returns the destination for ``asyncssh.connect`` as its arguments: a connected socket, or an address.
Dial = Callable[[], Awaitable[dict[str, Any]]]


class Connection:
    """One connection at a time to one server.

    ``what`` names the server in errors. ``keepalive``: whether a server that does not answer counts as lost; not for a
    VM, which may be paused.
    """

    def __init__(self, what: str, user: str, dial: Dial, keys: Callable[[], Keys], *, keepalive: bool) -> None:
        self._what, self._user, self._dial, self._keys, self._keepalive = what, user, dial, keys, keepalive
        self._ssh: asyncssh.SSHClientConnection | None = None
        self._lock = asyncio.Lock()
        self._closed = asyncio.Event()
        #: Called each time the connection is lost, but not when :meth:`aclose` closes it.
        self.on_lost: Callable[[], None] = lambda: None

    @property
    def alive(self) -> bool:
        """Whether there is a connection."""
        return self._ssh is not None

    async def open(self, timeout: float) -> asyncssh.SSHClientConnection:
        """Return the connection, after making one if there is none.

        Attempts go on until the server answers or ``timeout`` seconds have passed. Raises AgentConnectError,
        AgentTimeoutError, ConfigError.
        """
        async with self._lock:
            self._check_open()
            if self._ssh is None:
                self._ssh = await self._connect(timeout)
            return self._ssh

    async def drop(self) -> None:
        """Close the connection as if it were lost; the next :meth:`open` makes another one."""
        if (ssh := self._ssh) is not None:
            ssh.abort()
            await ssh.wait_closed()

    async def aclose(self) -> None:
        """Close the connection; :meth:`open` raises AgentConnectError from now on."""
        self._closed.set()
        if (ssh := self._ssh) is not None:
            ssh.close()
            await ssh.wait_closed()

    def lost(self, ssh: asyncssh.SSHClientConnection, error: Exception | None) -> None:
        """Drop a connection that has ended. Called by its client object."""
        if ssh is self._ssh:
            self._ssh = None
            if not self._closed.is_set():
                self.on_lost()

    async def _connect(self, timeout: float) -> asyncssh.SSHClientConnection:
        last = "nothing answered"
        try:
            async with asyncio.timeout(timeout):
                while True:
                    try:
                        return await self._attempt()
                    except (OSError, asyncssh.ConnectionLost, asyncssh.ProtocolError, HypervisorError) as error:
                        # No daemon listens yet, or QEMU accepted the connection before one listened in the guest.
                        last = str(error) or type(error).__name__
                    await self.pause()
        except TimeoutError as error:
            raise AgentTimeoutError(
                f"{self._what} accepted no SSH login within {timeout:.3g} s; the last attempt: {last}"
            ) from error

    async def pause(self) -> None:
        """Wait a moment before another attempt. Raises AgentConnectError when the connection is closed."""
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
            # No configuration, agent, passwords or tickets of the user.
            config=None,
            agent_path=None,
            agent_forwarding=False,
            password=None,
            preferred_auth="publickey",
            gss_host=None,
            x509_trusted_certs=None,
            send_env=[],
            compression_algs=None,
            login_timeout=_LOGIN_TIMEOUT,
            keepalive_interval=_KEEPALIVE[0] if self._keepalive else 0,
            keepalive_count_max=_KEEPALIVE[1],
        )
        try:
            return await self._dialled(options)
        except asyncssh.HostKeyNotVerifiable as error:
            raise AgentConnectError(f"{self._what} has another host key than the given one: {error.reason}") from error
        except asyncssh.KeyExchangeFailed as error:
            raise AgentConnectError(f"{self._what} has no host key of the given key's type: {error.reason}") from error
        except asyncssh.PermissionDenied as error:
            raise AgentConnectError(
                f"{self._what} does not accept the private key for the user {self._user!r}: {error.reason}"
            ) from error
        except asyncssh.ProtocolNotSupported as error:
            raise AgentConnectError(f"{self._what} does not support SSH 2: {error.reason}") from error

    async def _dialled(self, options: asyncssh.SSHClientConnectionOptions) -> asyncssh.SSHClientConnection:
        where = await self._dial()
        try:
            return await asyncssh.connect(**where, config=None, options=options)
        except BaseException:
            if "sock" in where:  # asyncssh leaves it open if it is cancelled before it uses it
                where["sock"].close()
            raise


class _Client(asyncssh.SSHClient):
    """Reports the end of a connection to its owner."""

    def __init__(self, owner: Connection) -> None:
        self._owner = owner
        self._ssh: asyncssh.SSHClientConnection | None = None

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        """Store the connection. Called by asyncssh."""
        self._ssh = conn

    def connection_lost(self, exc: Exception | None) -> None:
        """Report the end. Called by asyncssh."""
        if self._ssh is not None:
            self._owner.lost(self._ssh, exc)
