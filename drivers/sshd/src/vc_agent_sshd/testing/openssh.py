"""A real OpenSSH daemon on 127.0.0.1, with keys of its own; needs root and the Debian package openssh-server."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Server:
    """A running daemon, with the files of its keys in ``directory``."""

    directory: Path
    port: int

    @property
    def client_key(self) -> Path:
        """The file of the private key with which root can log in."""
        return self.directory / "client-key"

    @property
    def host_key(self) -> str:
        """The server's public key."""
        return (self.directory / "host-key.pub").read_text(encoding="utf-8")

    def options(self, **more: object) -> dict[str, object]:
        """Return the options of the agent sshd for this server."""
        return {
            "server": "127.0.0.1",
            "port": self.port,
            "username": "root",
            "priv_key_file": str(self.client_key),
            "host_key": self.host_key,
            **more,
        }


@contextmanager
def reserved_port() -> Iterator[int]:
    """Give a TCP port of 127.0.0.1 for a daemon; the kernel assigns it to no other program while the block runs.

    It stays bound here without listening. The daemon can bind it too, because both sockets have SO_REUSEADDR, and can
    listen, because no other socket does (socket(7)).
    """
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(("127.0.0.1", 0))
        yield int(one.getsockname()[1])


def make_keys(directory: Path) -> None:
    """Make the keys of a server and of a client that it accepts."""
    for name in ("host-key", "client-key"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(directory / name)]
        subprocess.run(command, check=True)
    shutil.copy(directory / "client-key.pub", directory / "authorized_keys")


@contextmanager
def serve(directory: Path, port: int = 0, max_sessions: int = 100) -> Iterator[Server]:
    """Run a daemon with the keys in a directory while the block runs; its open connections outlive it.

    ``max_sessions``: how many sessions each connection can have at a time.
    """
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/bin")
    assert sshd is not None, "install the Debian package openssh-server"
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it locks its unprivileged part in
    with reserved_port() if port == 0 else nullcontext(port) as chosen:
        server = Server(directory, chosen)
        daemon = _start(sshd, server, max_sessions)
        try:
            yield server
        finally:
            daemon.terminate()
            daemon.wait()


def _start(sshd: str, server: Server, max_sessions: int) -> subprocess.Popen[bytes]:
    directory = server.directory
    settings = {
        "ListenAddress": "127.0.0.1",
        "Port": server.port,
        "HostKey": directory / "host-key",
        "AuthorizedKeysFile": directory / "authorized_keys",
        "PasswordAuthentication": "no",
        "PermitRootLogin": "prohibit-password",
        "MaxSessions": max_sessions,
        "StrictModes": "no",
        "UsePAM": "no",
        "PrintMotd": "no",
        "PidFile": "none",
        # Without it, a bash of the first level reads ~/.bashrc for each command, and what is in it is the developer's.
        "SetEnv": "SHLVL=1",
    }
    config = directory / "sshd_config"
    config.write_text("".join(f"{name} {value}\n" for name, value in settings.items()), encoding="utf-8")
    with (directory / "log").open("ab") as log:
        return subprocess.Popen([sshd, "-D", "-e", "-f", str(config)], stdin=subprocess.DEVNULL, stderr=log)
