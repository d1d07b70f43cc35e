"""Options of the agent ``sshd`` (v0.1.0's ``SshdConfig``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from vc_core.errors import ConfigError

#: The port of SSH (RFC 4250, section 4.1).
DEFAULT_PORT = 22

#: Prefixes of a public key that is given as text, not as a path (RFC 4253, section 6.6, and OpenSSH's own types).
_KEY_PREFIXES = ("ssh-", "ecdsa-", "sk-")


@dataclass(frozen=True, slots=True, kw_only=True)
class SshdConfig:
    """Options of the agent ``sshd``. Without a ``server`` the guest is the pod's own, and keys are made for it."""

    default_spawner: ClassVar[str] = "nsenter"  #: used where it is installed and ``spawner`` is empty

    server: Annotated[
        str,
        "the server's name or address; without it, a guest of the pod's own. port, username, priv_key_file and "
        "host_key go with it",
    ] = ""
    port: Annotated[int, "the server's port"] = DEFAULT_PORT
    username: Annotated[
        str,
        "the user to log in as; without it, the user of this process, and root in a guest of the pod's own. Containers "
        "need root; others can only run commands in the pod",
    ] = ""
    priv_key_file: Annotated[str, "path of the private key, without a passphrase; needed with a server"] = ""
    host_key: Annotated[
        str,
        "the server's public key, ssh-ed25519 AAAA..., or the path of a file that holds one or more; needed with a "
        "server",
    ] = ""
    protocol: Annotated[
        Literal["tcp", "tcp4", "tcp6"], "tcp, or tcp4 or tcp6 for one kind of address (Go's net.Dial)"
    ] = "tcp"
    spawner: Annotated[
        str,
        "the driver that wraps commands for containers; without it nsenter, if that is installed, else commands cannot "
        "enter containers",
    ] = ""
    spawner_options: Annotated[Mapping[str, Any], "the options of that driver"] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("username", "priv_key_file", "server", "host_key", "spawner"):
            value = getattr(self, name)
            if "\0" in value:
                raise ConfigError(f"option {name} of agent sshd is {value!r}; give text without NUL")
        if not 0 < self.port < 65536:
            raise ConfigError(f"option port of agent sshd is {self.port!r}; give a number from 1 to 65535")
        object.__setattr__(self, "spawner_options", dict(self.spawner_options))
        if self.server:
            self._check_given()
        else:
            self._check_managed()

    def _check_given(self) -> None:
        for name, what in (("priv_key_file", "the private key to log in with"), ("host_key", "the server's key")):
            if not getattr(self, name):
                raise ConfigError(f"option {name} of agent sshd is missing for server {self.server!r}; give {what}")
        object.__setattr__(self, "priv_key_file", str(Path(self.priv_key_file).absolute()))
        if not self.host_key_is_text:
            object.__setattr__(self, "host_key", str(Path(self.host_key).absolute()))

    def _check_managed(self) -> None:
        if self.username not in ("", "root"):
            raise ConfigError(
                f"option username of agent sshd is {self.username!r}, but the pod's own guest has only the user root"
            )
        given = {"priv_key_file": self.priv_key_file, "host_key": self.host_key}
        if self.port != DEFAULT_PORT:
            given["port"] = str(self.port)
        for name, value in given.items():
            if value:
                raise ConfigError(
                    f"option {name} of agent sshd is {value!r} without a server; name the server that it is for"
                )

    @property
    def host_key_is_text(self) -> bool:
        """Whether ``host_key`` is the key itself and not the path of a file."""
        return self.host_key.startswith(_KEY_PREFIXES)
