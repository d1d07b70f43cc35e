"""Servers that are not what they should be: wrong keys, no answer, too much of it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from waiting_guest import WaitingGuest

from vc_agent_sshd.agent import PORT_NAME, SshdAgent
from vc_agent_sshd.config import SshdConfig
from vc_agent_sshd.connection import Connection
from vc_agent_sshd.keys import Keys, ManagedKeys
from vc_agent_sshd.session import _Pieces
from vc_agent_sshd.waking import CHANNEL
from vc_core.driver import Cmd, GuestContainer, GuestPort, PodContext, SharedDirectory, read_options
from vc_core.errors import AgentConnectError, AgentError, AgentProtocolError, AgentTimeoutError, ConfigError
from vc_core.testing.process_io import RecordedIO
from vc_core.testing.slowness import scaled

TIMEOUT = scaled(60.0)

Handler = Callable[[asyncssh.SSHServerProcess[bytes]], Any]


class Peer:
    """An SSH server of asyncssh's on 127.0.0.1 that answers each command as a handler does."""

    def __init__(self, directory: Path, handler: Handler) -> None:
        self.host, self.client = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
        self.key_file = directory / "key"
        self.key_file.write_bytes(self.client.export_private_key())
        self.handler = handler
        self.port = 0
        self.offered: list[str] = []  #: what clients tried to log in with

    def options(self, **more: object) -> dict[str, object]:
        return {
            "server": "127.0.0.1",
            "port": self.port,
            "username": "someone",
            "priv_key_file": str(self.key_file),
            "host_key": self.host.export_public_key().decode(),
            **more,
        }

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        peer = self

        connections: list[asyncssh.SSHServerConnection] = []

        class Login(asyncssh.SSHServer):
            def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
                connections.append(conn)

            def begin_auth(self, username: str) -> bool:
                return True

            def public_key_auth_supported(self) -> bool:
                return True

            def password_auth_supported(self) -> bool:
                return True

            def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
                peer.offered.append(key.get_fingerprint())
                return bool(key.get_fingerprint() == peer.client.get_fingerprint())

            def validate_password(self, username: str, password: str) -> bool:
                peer.offered.append("password")
                return False

        acceptor = await asyncssh.listen(
            "127.0.0.1", 0, server_host_keys=[self.host], server_factory=Login, process_factory=self.handler,
            encoding=None,
        )  # fmt: skip
        self.port = acceptor.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            acceptor.close()
            for connection in connections:
                connection.abort()
                await connection.wait_closed()


async def no_channel(name: str) -> socket.socket:
    raise AssertionError("a given server is reached by its address")


def agent_for(pod: PodContext, peer: Peer, **options: object) -> SshdAgent:
    return SshdAgent(pod, read_options(SshdConfig, peer.options(**options), "agent sshd"), None, None)


def play(work: Callable[[], Any]) -> None:
    asyncio.run(asyncio.wait_for(work(), 2 * TIMEOUT))


async def fails(agent: SshdAgent, error: type[Exception], match: str, timeout: float = TIMEOUT) -> None:
    with pytest.raises(error, match=match):
        await agent.connect(no_channel, timeout)
    await agent.aclose()


def silent(process: asyncssh.SSHServerProcess[bytes]) -> None:
    process.exit(0)


@pytest.mark.promise("T19")
def test_a_server_with_another_host_key_is_refused_before_the_key_is_offered(pod: PodContext, tmp_path: Path) -> None:
    async def work() -> None:
        peer = Peer(tmp_path, silent)
        other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
        rsa = asyncssh.generate_private_key("ssh-rsa", key_size=2048).export_public_key().decode()
        async with peer.listening():
            await fails(agent_for(pod, peer, host_key=other), AgentConnectError, "host key")
            await fails(agent_for(pod, peer, host_key=rsa), AgentConnectError, "host key")
        assert peer.offered == []

    play(work)


def test_a_key_that_the_server_refuses_is_an_error_and_nothing_else_is_tried(
    pod: PodContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    own = asyncssh.generate_private_key("ssh-ed25519")
    (home / ".ssh/id_ed25519").write_bytes(own.export_private_key())
    (home / ".ssh/id_ed25519").chmod(0o600)
    (home / ".ssh/config").write_text("Host *\n  User evil\n  ProxyCommand false\n", encoding="utf-8")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))

    async def work() -> None:
        peer = Peer(tmp_path, silent)
        stranger = tmp_path / "stranger"
        stranger.write_bytes((key := asyncssh.generate_private_key("ssh-ed25519")).export_private_key())
        asked = []
        agent_socket = await asyncio.start_unix_server(lambda *streams: asked.append(streams), tmp_path / "agent")
        async with peer.listening(), agent_socket:
            await fails(agent_for(pod, peer, priv_key_file=str(stranger)), AgentConnectError, "'someone'")
        assert set(peer.offered) == {key.get_fingerprint()}
        assert asked == []

    play(work)


@pytest.mark.promise("T19")
@pytest.mark.slow
@pytest.mark.parametrize("greeting", [b"", b"220 mail.example ESMTP\r\n"])
def test_a_stolen_port_lets_the_timeout_pass(pod: PodContext, tmp_path: Path, greeting: bytes) -> None:
    async def work() -> None:
        peer = Peer(tmp_path, silent)

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(greeting)
            writer.close()

        thief = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with thief:
            peer.port = thief.sockets[0].getsockname()[1]
            await fails(agent_for(pod, peer), AgentTimeoutError, "accepted no SSH login within 1 s", timeout=1)

    play(work)


def test_a_server_that_says_nothing_lets_the_timeout_pass(pod: PodContext, tmp_path: Path) -> None:
    async def work() -> None:
        peer = Peer(tmp_path, silent)
        with socket.create_server(("127.0.0.1", 0)) as deaf:
            peer.port = deaf.getsockname()[1]
            await fails(agent_for(pod, peer), AgentTimeoutError, "within 0.5 s", timeout=0.5)

    play(work)


def test_keys_that_cannot_be_read_are_named(pod: PodContext, tmp_path: Path) -> None:
    async def work() -> None:
        peer = Peer(tmp_path, silent)
        peer.port = 9
        (tmp_path / "none").write_text("no key\n", encoding="utf-8")
        for name, value in (
            ("priv_key_file", f"{tmp_path}/none"),
            ("priv_key_file", f"{tmp_path}/missing"),
            ("host_key", f"{tmp_path}/none"),
            ("host_key", "ssh-ed25519 AAAA"),
        ):
            await fails(agent_for(pod, peer, **{name: value}), ConfigError, value)

    play(work)


def test_a_command_whose_connection_drops_fails(pod: PodContext, tmp_path: Path) -> None:
    async def work() -> None:
        async def drop(process: asyncssh.SSHServerProcess[bytes]) -> None:
            process.stdout.write(b"4711\nsome")
            await process.stdout.drain()
            process.channel.get_connection().abort()

        peer = Peer(tmp_path, drop)
        async with peer.listening():
            agent = agent_for(pod, peer)
            await agent.connect(no_channel, TIMEOUT)
            process = await agent.exec("", Cmd(args=["x"]), RecordedIO(), TIMEOUT)
            with pytest.raises(AgentConnectError, match="lost while 'x' ran"):
                await agent.wait(process)
            await agent.aclose()

    play(work)


def test_a_command_without_an_exit_code_fails(pod: PodContext, tmp_path: Path) -> None:
    async def work() -> None:
        def close(process: asyncssh.SSHServerProcess[bytes]) -> None:
            process.stdout.write(b"4711\n")
            process.close()

        peer = Peer(tmp_path, close)
        async with peer.listening():
            agent = agent_for(pod, peer)
            await agent.connect(no_channel, TIMEOUT)
            process = await agent.exec("", Cmd(args=["x"]), RecordedIO(), TIMEOUT)
            with pytest.raises(AgentConnectError):
                await agent.wait(process)
            await agent.aclose()

    play(work)


@pytest.mark.slow
def test_a_flood_instead_of_the_first_line_is_refused(pod: PodContext, tmp_path: Path) -> None:
    async def work() -> None:
        async def flood(process: asyncssh.SSHServerProcess[bytes]) -> None:
            while not process.is_closing():
                process.stdout.write(b"x" * 65536)
                await process.stdout.drain()

        peer = Peer(tmp_path, flood)
        async with peer.listening():
            agent = agent_for(pod, peer)
            await agent.connect(no_channel, TIMEOUT)
            with pytest.raises(AgentProtocolError, match="does not begin with a line"):
                await agent.exec("", Cmd(args=["x"]), RecordedIO(), TIMEOUT)
            with pytest.raises(AgentError):
                await agent.start_pod("host", "", 1)
            await agent.aclose()

    play(work)


def test_few_bytes_a_packet_of_output_that_is_not_read_cost_no_more_memory_than_many(
    pod: PodContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = 8192
    monkeypatch.setattr("vc_agent_sshd.session.WINDOW", window)
    monkeypatch.setattr("vc_agent_sshd.session._CHUNK", 256)

    async def work() -> None:
        sent = asyncio.Event()

        async def drip(process: asyncssh.SSHServerProcess[bytes]) -> None:
            process.stdout.write(b"4711\n")
            if not sent.is_set():
                for _ in range(int(0.7 * window)):  # a window that the session keeps, the rest is for the channel
                    process.stdout.write(b"xy")
                    await process.stdout.drain()
                sent.set()
            await process.stdin.read()

        peer = Peer(tmp_path, drip)
        async with peer.listening():
            agent = agent_for(pod, peer)
            await agent.connect(no_channel, TIMEOUT)
            for _ in range(2):  # what answers the second command comes after all of the first one's output
                await agent.exec("", Cmd(args=["x"]), RecordedIO(None, stalled=True), TIMEOUT)
                await sent.wait()
            kept = [piece for one in gc.get_objects() if isinstance(one, _Pieces) for piece in one]
            waiting = [piece[0] if isinstance(piece, tuple) else piece for piece in kept]
            assert sum(map(len, waiting)) > 1.25 * window  # in the session and in the channel
            assert len(waiting) < 100  # unmerged, there are thousands
            await agent.aclose()

    play(work)


@pytest.mark.parametrize("line", [b"ok 1 2\n", b"ok -5 2\n", b"ok x\n", b"ok 99999999999 1\n"])
def test_a_container_s_process_that_cannot_be_one_is_refused(pod: PodContext, tmp_path: Path, line: bytes) -> None:
    async def work() -> None:
        async def answer(process: asyncssh.SSHServerProcess[bytes]) -> None:
            process.stdout.write(line)
            process.exit(0)

        peer = Peer(tmp_path, answer)
        async with peer.listening():
            agent = agent_for(pod, peer)
            await agent.connect(no_channel, TIMEOUT)
            with pytest.raises(AgentProtocolError, match="as a container's process"):
                await agent.start_container(GuestContainer("c1", "/srv", Cmd(args=["x"])), RecordedIO(), TIMEOUT)
            await agent.aclose()

    play(work)


def test_a_server_that_does_not_answer_a_command_lets_the_timeout_pass(pod: PodContext, tmp_path: Path) -> None:
    async def work() -> None:
        async def hang(process: asyncssh.SSHServerProcess[bytes]) -> None:
            await process.stdin.read()

        peer = Peer(tmp_path, hang)
        async with peer.listening():
            agent = agent_for(pod, peer)
            await agent.connect(no_channel, TIMEOUT)
            with pytest.raises(AgentTimeoutError, match=r"within 0\.3 s"):
                await agent.exec("", Cmd(args=["x"]), RecordedIO(None), 0.3)
            with pytest.raises(AgentTimeoutError, match=r"within 0\.3 s"):
                await agent.remove_container("c1", 0.3)
            await agent.aclose()

    play(work)


@pytest.mark.parametrize("turns", range(12))
def test_an_attempt_to_connect_that_is_cancelled_leaves_no_socket_open(turns: int) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    sockets: list[socket.socket] = []

    async def dial() -> dict[str, Any]:
        sockets.extend(socket.socketpair())
        sockets[0].setblocking(False)
        return {"sock": sockets[0], "host": "guest"}

    async def work() -> None:
        keys = Keys(key, (key.convert_to_public(),))
        connection = Connection("the guest", "root", dial, lambda: keys, keepalive=False)
        opening = asyncio.create_task(connection.open(TIMEOUT))
        for _ in range(turns):
            await asyncio.sleep(0)
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        await connection.aclose()

    play(work)
    for one in sockets[1:]:
        one.close()
    assert [one.fileno() for one in sockets] == [-1] * len(sockets)


class Endings:
    """A handler that answers a command with some output, and notes when the session of each ends."""

    def __init__(self, output: bytes) -> None:
        self._output = output
        self.ended = asyncio.Event()

    async def __call__(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        process.stdout.write(self._output)
        await process.wait_closed()
        self.ended.set()


def test_the_session_of_a_command_that_does_not_begin_with_a_line_is_closed(pod: PodContext, tmp_path: Path) -> None:
    async def work() -> None:
        sessions = Endings(b"x" * 8192)
        peer = Peer(tmp_path, sessions)
        async with peer.listening():
            agent = agent_for(pod, peer)
            await agent.connect(no_channel, TIMEOUT)
            with pytest.raises(AgentProtocolError, match="does not begin with a line"):
                await agent.exec("", Cmd(args=["x"]), RecordedIO(None), TIMEOUT)
            await sessions.ended.wait()
            await agent.aclose()

    play(work)


def test_the_session_of_a_command_that_never_begins_is_closed(
    pod: PodContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vc_agent_sshd.calls.UNATTENDED_TIMEOUT", 0.1)

    async def work() -> None:
        sessions = Endings(b"")
        peer = Peer(tmp_path, sessions)
        async with peer.listening():
            agent = agent_for(pod, peer)
            await agent.connect(no_channel, TIMEOUT)
            with pytest.raises(AgentTimeoutError):
                await agent.exec("", Cmd(args=["x"]), RecordedIO(None), 0.3)
            await sessions.ended.wait()
            await agent.aclose()

    play(work)


class CountedIO(RecordedIO):
    """Counts how many writes of output there are at once."""

    def __init__(self) -> None:
        super().__init__(None, stalled=True)
        self.begun = asyncio.Event()
        self.now = self.most = 0

    async def write_stdout(self, data: bytes) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        self.begun.set()
        await super().write_stdout(data)
        self.now -= 1


def test_the_output_of_a_lost_connection_is_written_before_that_of_the_next_one(
    pod: PodContext, tmp_path: Path
) -> None:
    async def work() -> None:
        io, attached = CountedIO(), asyncio.Event()
        received: list[bytes] = []

        async def guest(process: asyncssh.SSHServerProcess[bytes]) -> None:
            line = process.command or ""
            if " run " in line:
                process.stdout.write(b"ok 100 2\nfirst ")
                await io.begun.wait()
                process.channel.get_connection().abort()
            elif " attach " in line:
                spec = '{"confinement": {"rlimits": [], "capabilities": []}, "envs": []}'
                process.stdout.write(f"ok 100 2 {spec}\nsecond".encode())
                attached.set()
                received.append(await process.stdin.readexactly(5))
                process.exit(3)
            else:
                process.exit(0)

        peer = Peer(tmp_path, guest)
        async with peer.listening():
            agent = agent_for(pod, peer)
            await agent.connect(no_channel, TIMEOUT)
            container = GuestContainer("c1", "/srv", Cmd(args=["x"]))
            process = await agent.start_container(container, io, TIMEOUT)
            await attached.wait()
            io.give(b"input")
            await agent.signal_container("c1", 1, TIMEOUT)  # its answer comes after what was sent before
            io.flowing.set()
            assert await agent.wait(process) == 3
            assert (bytes(io.stdout), io.most, received) == (b"first second", 1, [b"input"])
            await agent.aclose()

    play(work)


# -- the guest of a pod of its own -------------------------------------------------------------------------------------


def test_the_private_key_of_the_agent_is_made_at_each_start_and_that_of_the_daemon_is_not_kept(pod: PodContext) -> None:
    pod.run_dir.mkdir(mode=0o700)
    keys = ManagedKeys(pod.run_dir)
    host, authorized = keys.make()
    assert sorted(path.name for path in (pod.run_dir / "ssh").iterdir()) == ["client-key", "host-key.pub"]
    private = pod.run_dir / "ssh/client-key"
    assert private.stat().st_mode & 0o777 == 0o600
    assert keys.read().client.export_public_key() == authorized
    assert asyncssh.import_private_key(host).public_data == keys.read().host[0].public_data
    assert not {host, authorized} & set(keys.make())


def test_a_guest_of_its_own_has_a_port_a_channel_and_the_pod_s_shares(pod: PodContext) -> None:
    port, channel, *shares = SshdAgent(pod, SshdConfig(), None, None).devices()
    assert (port, channel) == (GuestPort(PORT_NAME, 22), CHANNEL)
    assert [share.host_path for share in shares if isinstance(share, SharedDirectory)] == [pod.share_dir] * 2


@pytest.mark.promise("T19")
def test_a_managed_guest_is_tried_until_its_daemon_answers_and_only_with_its_own_key(pod: PodContext) -> None:
    pod.run_dir.mkdir(mode=0o700)

    async def work() -> None:
        attempts = 0
        given: list[bytes] = []

        async def take(*files: bytes) -> None:
            given.extend(files)

        guest = WaitingGuest(take)

        async def open_channel(name: str) -> socket.socket:
            nonlocal attempts
            if channel := guest.open_channel(name):
                return channel
            assert name == PORT_NAME
            attempts += 1
            ours, theirs = socket.socketpair()
            if attempts < 3:  # as QEMU does while no process listens in the guest
                theirs.close()
                return ours
            theirs.setblocking(False)
            ours.setblocking(False)
            host, who = asyncssh.import_private_key(given[0]), asyncssh.import_authorized_keys(given[1].decode())

            async def serve() -> asyncssh.SSHServerConnection:
                return await asyncssh.run_server(theirs, server_host_keys=[host], authorized_client_keys=who)

            serving.append(asyncio.create_task(serve()))
            return ours

        serving: list[asyncio.Task[asyncssh.SSHServerConnection]] = []
        template = SshdAgent(pod, SshdConfig(), None, None)
        await template.settle(open_channel, TIMEOUT)
        await template.aclose()
        assert given == []
        agent = SshdAgent(pod, SshdConfig(), None, None)
        await agent.wake(open_channel, TIMEOUT)
        assert attempts == 3
        assert len(set(guest.entropy)) == 2
        await agent.aclose()
        await (await serving[0]).wait_closed()

    play(work)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"the clock: Operation not permitted\n", "the clock: Operation not permitted"),
        (b"", "it closed the channel"),
        (b"x" * 100_000, "its answer is not a line"),
    ],
    ids=["reason", "nothing", "flood"],
)
def test_a_guest_that_does_not_take_its_keys_is_an_error_with_its_reason(
    pod: PodContext, answer: bytes, text: str
) -> None:
    pod.run_dir.mkdir(mode=0o700)

    async def work() -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)

        async def reply() -> None:
            loop = asyncio.get_running_loop()
            await loop.sock_recv(theirs, 65536)
            with theirs, contextlib.suppress(OSError):
                await loop.sock_sendall(theirs, answer)

        async def open_channel(name: str) -> socket.socket:
            return ours

        replying = asyncio.create_task(reply())
        agent = SshdAgent(pod, SshdConfig(), None, None)
        with pytest.raises(AgentConnectError, match=f"the guest of pod '{pod.id}' did not take its keys: .*{text}"):
            await agent.connect(open_channel, TIMEOUT)
        await agent.aclose()
        await replying

    play(work)
