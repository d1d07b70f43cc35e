"""The keys of a guest of the pod's own: made at each start, sent to the guest, read again at a takeover.

Below the pod's run directory, which only its owner can enter::

    ssh/client-key     the agent's private key
    ssh/host-key.pub   the public key of the guest's daemon, whose private key is in the guest only
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from vc_agent_sshd.config import SshdConfig
from vc_core.errors import AgentConnectError, ConfigError, StorageError

#: Fast to generate and to verify, and supported by OpenSSH since 6.5 (2014).
_ALGORITHM = "ssh-ed25519"


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of an SSH connection: the agent's private key, and the public keys that the server may have."""

    client: asyncssh.SSHKey
    host: tuple[asyncssh.SSHKey, ...]


@dataclass(frozen=True, slots=True)
class ManagedKeys:
    """The keys of one pod, in files below its run directory."""

    run_dir: Path

    def make(self) -> tuple[bytes, bytes]:
        """Write new keys over any that are there; return the files of the guest: its private key, and who may log in.

        Blocks for some milliseconds. Raises StorageError.
        """
        client, host = (asyncssh.generate_private_key(_ALGORITHM) for _ in range(2))
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            _write(self._client_key, client.export_private_key())
            _write(self._host_key, host.export_public_key())
        except OSError as error:
            raise StorageError(f"the keys of the guest cannot be written: {error}") from error
        return host.export_private_key(), client.export_public_key()

    def read(self) -> Keys:
        """Return the keys that :meth:`make` wrote. Raises AgentConnectError."""
        try:
            client = asyncssh.read_private_key(str(self._client_key))
            return Keys(client, (asyncssh.read_public_key(str(self._host_key)),))
        except (OSError, asyncssh.KeyImportError) as error:
            raise AgentConnectError(f"the keys of the guest cannot be read: {error}") from error

    @property
    def _directory(self) -> Path:
        return self.run_dir / "ssh"

    @property
    def _client_key(self) -> Path:
        return self._directory / "client-key"

    @property
    def _host_key(self) -> Path:
        return self._directory / "host-key.pub"


def given_keys(config: SshdConfig) -> Keys:
    """Return the keys of a configuration with a server. Raises ConfigError."""
    try:
        client = asyncssh.read_private_key(config.priv_key_file)
    except (OSError, asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise ConfigError(f"private key {config.priv_key_file!r} cannot be used: {error}") from error
    try:
        if config.host_key_is_text:
            host = [asyncssh.import_public_key(config.host_key)]
        else:
            host = list(asyncssh.read_public_key_list(config.host_key))
    except (OSError, asyncssh.KeyImportError) as error:
        raise ConfigError(f"host key {config.host_key!r} cannot be used: {error}") from error
    if not host:
        raise ConfigError(f"host key {config.host_key!r} holds no key; give the server's public key")
    return Keys(client, tuple(host))


def _write(path: Path, data: bytes) -> None:
    """Replace a file by a new one that only its owner can read."""
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
