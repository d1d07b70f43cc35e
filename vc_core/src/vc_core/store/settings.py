"""The configuration files: defaults that an administrator, or a user, sets for the pods of this host.

::

    [pod]
    strict = true   # pods whose caller does not choose start only in a full jail
    [templates]
    size = 8192     # MiB that all templates may have together

The files are ``/etc/virtcontainers/config.toml`` and, for other users than root, ``virtcontainers/config.toml`` in the
XDG directory for configuration, whose values win. A variable of the environment names one other file in their place.
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from vc_core.errors import ConfigError

#: Names the file to read in the place of the others.
CONFIG_VARIABLE = "VIRTCONTAINERS_CONFIG"

_SYSTEM, _NAME = Path("/etc"), "virtcontainers/config.toml"

#: Bytes of a file; one with all settings has some hundred.
_SIZE_MAX = 64 * 1024


class _Key(NamedTuple):
    """What a key may be set to: a type, the least value of a number, and what an error asks for."""

    type: type[int]
    least: int
    wanted: str


#: The tables of a file, and their keys.
_KEYS = {
    "pod": {"strict": _Key(bool, 0, "true or false")},
    "templates": {"size": _Key(int, 1, "a whole number of MiB, at least 1")},
}


@dataclass(frozen=True, slots=True)
class Settings:
    """The values of the configuration files. ``files``: those that exist, in the order in which they were read."""

    strict: bool = False  #: whether a pod starts only in a full jail, if its caller did not choose
    templates_size: int = 2048  #: MiB that all templates may have together
    files: tuple[Path, ...] = ()

    @classmethod
    def read(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Return the settings of this user and environment (by default, of this process). No file is no error.

        Called when a pod is created and when it starts. Raises ConfigError for a file that is not valid, or that
        another user than root and this one could have written.
        """
        environment = os.environ if environment is None else environment
        found, files = dict[str, Any](), list[Path]()
        for path in _paths(environment):
            try:
                values = _read(path)
            except FileNotFoundError:
                if environment.get(CONFIG_VARIABLE):
                    raise ConfigError(f"configuration file {str(path)!r}, of {CONFIG_VARIABLE}, is not there") from None
                continue
            files.append(path)
            found |= values.get("pod", {})
            found |= {f"templates_{key}": value for key, value in values.get("templates", {}).items()}
        return cls(**found, files=tuple(files))


def _paths(environment: Mapping[str, str]) -> list[Path]:
    if given := environment.get(CONFIG_VARIABLE, ""):
        if not Path(given).is_absolute():  # a supervisor reads it, too, in another directory
            raise ConfigError(f"{CONFIG_VARIABLE} is {given!r}; give an absolute path")
        return [Path(given)]
    if os.geteuid() == 0:
        return [_SYSTEM / _NAME]
    given = environment.get("XDG_CONFIG_HOME", "")
    own = Path(given) if Path(given).is_absolute() else Path(environment.get("HOME") or Path.home(), ".config")
    return [_SYSTEM / _NAME, own / _NAME]


def _read(path: Path) -> dict[str, Any]:
    """Return the tables of a file. Raises ConfigError, FileNotFoundError."""
    name = f"configuration file {str(path)!r}"
    try:
        # O_NONBLOCK: a pipe in the place of the file must not make this process wait.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigError(f"{name} cannot be read: {error.strerror}") from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _SIZE_MAX:
            raise ConfigError(f"{name} is not a regular file of {_SIZE_MAX} bytes at most")
        if status.st_uid not in _trusted():
            raise ConfigError(f"{name} belongs to user {status.st_uid}; run: chown {os.geteuid()} {path}")
        if status.st_mode & 0o022:
            raise ConfigError(f"{name} is writable by others; run: chmod 644 {path}")
        values = tomllib.loads(os.read(fd, _SIZE_MAX).decode())
    except (ValueError, RecursionError) as error:  # of tomllib; also a number of too many digits, too many brackets
        raise ConfigError(f"{name} is not TOML: {error}") from error
    except OSError as error:
        raise ConfigError(f"{name} cannot be read: {error.strerror}") from error
    finally:
        os.close(fd)
    _check(name, values)
    return values


def _trusted() -> set[int]:
    """Return the owners that a file may have: root and this user.

    In the user namespace of a plain user's supervisor root has the id of all users who have none there. A file that one
    of them owns was refused outside, when the pod was created.
    """
    lines = Path("/proc/self/uid_map").read_text(encoding="ascii").splitlines()
    has_root = any(int(line.split()[0]) == 0 for line in lines)
    root = 0 if has_root else int(Path("/proc/sys/kernel/overflowuid").read_text(encoding="ascii"))
    return {root, os.geteuid()}


def _check(name: str, values: dict[str, Any]) -> None:
    """Refuse tables, keys and values that are not in ``_KEYS``. Raises ConfigError."""
    for table, keys in values.items():
        if table not in _KEYS:
            raise ConfigError(f"{name} has the unknown key {table!r}; it can have {', '.join(_KEYS)}")
        if not isinstance(keys, dict):
            raise ConfigError(f"{name} has {table} = {keys!r}; make it a table: [{table}]")
        for key, value in keys.items():
            wanted = _KEYS[table].get(key)
            if wanted is None:
                keys_of_table = ", ".join(f"{table}.{one}" for one in _KEYS[table])
                raise ConfigError(f"{name} has the unknown key {f'{table}.{key}'!r}; it can have {keys_of_table}")
            if type(value) is not wanted.type or value < wanted.least:
                raise ConfigError(f"{name} has {table}.{key} = {value!r}; give {wanted.wanted}")
