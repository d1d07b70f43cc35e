"""The contract that every agent keeps, kept in both ways to a guest: one of its own, and a server that is given."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from waiting_guest import WaitingGuest

from vc_agent_sshd.testing.openssh import Server, reserved_port
from vc_core.driver import Agent, HypervisorConfig, PodContext, Resources, Spawner
from vc_core.testing import AgentContract, Plugins
from vc_core.testing.contract.agent import RunningGuest, StartGuest

pytestmark = pytest.mark.root

#: A machine with its own processes, names and /run, which ends with the daemon in it, as a guest of ours does.
MACHINE = (
    *("unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "sh", "-euc"),
    """
    mount -t proc proc /proc
    mount -t tmpfs tmpfs /run
    # bash reads this for each command of a session; what is in it is the developer's
    [ ! -e ~/.bashrc ] || mount --bind /dev/null ~/.bashrc
    mkdir -m 0700 /run/sshd /run/ssh
    mkdir -p -m 0700 /run/vc-sshd/.made/tools
    cp "$4/containers.sh" /run/vc-sshd/.made
    cp "$4/launch.sh" /run/vc-sshd/.made/tools
    sh /run/vc-sshd/.made/containers.sh setup
    cp "$1"/host-key "$1"/authorized_keys /run/ssh
    exec "$(command -v /usr/sbin/sshd)" -D -e -f "$2" -o "Port $3" -o "ListenAddress 127.0.0.1" -o "StrictModes no"
    """,
    "sh",
)

CONFIG = Path(__file__).parents[1] / "src/vc_agent_sshd/guest/sshd_config"


class Machine:
    """A real daemon with our own configuration, in a machine that is none; ``waiting`` is it before it has keys."""

    def __init__(self, port: int, waiting: WaitingGuest | None = None) -> None:
        self._port, self._waiting = port, waiting

    async def open_channel(self, name: str) -> socket.socket:
        if self._waiting is not None and (channel := self._waiting.open_channel(name)):
            return channel
        assert name == "ssh"
        connection = socket.create_connection(("127.0.0.1", self._port))
        connection.setblocking(False)
        return connection


class OnThisHost(AgentContract):
    """The agent with a real daemon on this host, whose containers are real too."""

    driver_name = "sshd"

    @pytest.fixture
    def spawner(self) -> Spawner:
        driver = Plugins().spawner("nsenter")
        return driver.create(driver.config({}))

    def mount_source(self, pod: PodContext, path: str, *, read_only: bool) -> str:
        top = pod.share_dir if read_only else pod.writable_dir  # no 9p here, but the same directories
        return f"{top}/{path}"

    def written_root(self, pod: PodContext, path: str) -> str:
        return f"{pod.roots_dir}/{path}"


class TestGuestOfItsOwn(OnThisHost):
    @pytest.fixture
    def pod(self, tmp_path: Path, root_fs: Path) -> PodContext:
        run_dir = tmp_path / "run"
        run_dir.mkdir(mode=0o700)
        type(self).root_fs = str(root_fs)  # as the guest sees it: no 9p here
        return PodContext(
            id=f"contract-{os.getpid()}",  # the name of control groups, which have no namespace here
            uuid="00000000-0000-0000-0000-000000000000",
            run_dir=run_dir,
            share_dir=run_dir / "share",
            resources=Resources(),
            hypervisor_config=HypervisorConfig(),
            writable_dir=run_dir / "writable",
            roots_dir=run_dir / "roots",
        )

    @pytest.fixture
    def guest(self, make: Callable[..., Agent], pod: PodContext) -> StartGuest:
        @asynccontextmanager
        async def start() -> AsyncIterator[RunningGuest]:
            keys = pod.run_dir / "keys"
            keys.mkdir()
            running: list[asyncio.subprocess.Process] = []
            with reserved_port() as port:

                async def boot(host_key: bytes, authorized_keys: bytes) -> None:
                    (keys / "host-key").write_bytes(host_key)
                    (keys / "host-key").chmod(0o600)
                    (keys / "authorized_keys").write_bytes(authorized_keys)
                    with (pod.run_dir / "log").open("wb") as log:
                        command = [*MACHINE, str(keys), str(CONFIG), str(port), str(CONFIG.parent)]
                        running.append(
                            await asyncio.create_subprocess_exec(*command, stdin=subprocess.DEVNULL, stderr=log)
                        )

                try:
                    yield Machine(port, WaitingGuest(boot))
                finally:
                    for process in running:
                        if process.returncode is None:
                            process.kill()
                        await process.wait()

        return start


class TestGivenServer(OnThisHost):
    @pytest.fixture
    def options(self, server: Server) -> Mapping[str, object]:
        return server.options()

    @pytest.fixture
    def pod(self, pod: PodContext, root_fs: Path) -> PodContext:
        type(self).root_fs = str(root_fs)
        own = f"contract-{os.getpid()}"  # the name of its files on this host, for this run alone
        return replace(pod, id=own, writable_dir=pod.run_dir / "writable", roots_dir=pod.run_dir / "roots")

    @pytest.fixture
    def guest(self, server: Server, pod: PodContext) -> StartGuest:
        @asynccontextmanager
        async def start() -> AsyncIterator[RunningGuest]:
            try:
                yield Machine(server.port)
            finally:
                script = Path(f"/run/vc-sshd/{pod.id}/containers.sh")
                if script.exists():
                    await (await asyncio.create_subprocess_exec("sh", str(script), "remove_all")).wait()

        return start


def test_the_daemon_of_the_tests_is_openssh_and_has_the_key_that_the_agent_expects(server: Server) -> None:
    scanned = ["ssh-keyscan", "-T", "30", "-p", str(server.port), "-t", "ed25519", "127.0.0.1"]
    found = subprocess.run(scanned, capture_output=True, encoding="utf-8", check=True)
    assert "OpenSSH" in found.stderr, "the first line that the daemon sends; it is a comment here"
    assert found.stdout.split()[1:3] == server.host_key.split()[:2]
