"""Options of the agent ``sshd`` (v0.1.0's ``SshdConfig``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from vc_core.driver import read_options
from vc_core.errors import ConfigError

#: Values of ``protocol``, as in Go's net.Dial.
PROTOCOLS = ("tcp", "tcp4", "tcp6")

#: The port of SSH (RFC 4250, section 4.1).
DEFAULT_PORT = 22

#: Prefixes of a public key that is given as text, not as a path (RFC 4253, section 6.6, and OpenSSH's own types).
_KEY_PREFIXES = ("ssh-", "ecdsa-", "sk-")


@dataclass(frozen=True, slots=True, kw_only=True)
class SshdConfig:
    """Options of the agent ``sshd``.

    Without a ``server`` the guest is the pod's own, and keys are made for it. With one, ``priv_key_file`` is the path
    of the private key to log in with, ``host_key`` the server's public key, as text ("ssh-ed25519 AAAA...") or the path
    of a file with one or more, and ``username`` the user to log in as, by default the user of this process.
    ``protocol`` is "tcp", "tcp4" or "tcp6". ``spawner`` names the driver that wraps commands for a container, with
    ``spawner_options``; without one they run in the guest itself.
    """

    username: str = ""
    priv_key_file: str = ""
    server: str = ""
    port: int | str = DEFAULT_PORT
    protocol: str = "tcp"
    host_key: str = ""
    spawner: str = ""
    spawner_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("username", "priv_key_file", "server", "host_key", "spawner"):
            value = getattr(self, name)
            if not isinstance(value, str) or "\0" in value:
                raise ConfigError(f"option {name} of agent sshd is {value!r}; give a text")
        if not isinstance(self.spawner_options, Mapping):
            raise ConfigError(f"option spawner_options of agent sshd is {self.spawner_options!r}; give a mapping")
        object.__setattr__(self, "spawner_options", dict(self.spawner_options))
        object.__setattr__(self, "port", _port(self.port))
        if self.protocol not in PROTOCOLS:
            raise ConfigError(f"option protocol of agent sshd is {self.protocol!r}; give {', '.join(PROTOCOLS)}")
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

    @classmethod
    def from_mapping(cls, options: Mapping[str, object]) -> SshdConfig:
        """Return the configuration that ``options`` describe.

        Raises ConfigError for an unknown option or a bad value, naming both.
        """
        return read_options(cls, options, "agent sshd")

    def to_mapping(self) -> dict[str, object]:
        """Return JSON-able options, from which :meth:`from_mapping` makes an equal configuration."""
        return {one.name: value for one in fields(self) if (value := getattr(self, one.name))}


def _port(value: object) -> int:
    """Return a port given as a number or, as in v0.1.0, as text; empty means the default. Raises ConfigError."""
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if value == "":
        return DEFAULT_PORT
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 65536:
        raise ConfigError(f"option port of agent sshd is {value!r}; give a number from 1 to 65535")
    return value
