"""The configuration files: defaults that an administrator, or a user, sets for the pods of this host.

::

    [pod]
    memory = 1024   # MiB of pods whose caller gives no size
    strict = true   # pods whose caller does not choose start only in a full jail
    [templates]
    size = 8192     # MiB that all templates may have together

The files are ``/etc/virtcontainers/config.toml`` and, for other users than root, ``virtcontainers/config.toml`` in the
XDG directory for configuration, whose values win. A variable of the environment names one other file in their place.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from vc_core.config.defaults import DEFAULT_AGENT, DEFAULT_HYPERVISOR
from vc_core.config.fields import Count, check_fields
from vc_core.driver.users import host_user, root_owner
from vc_core.errors import ConfigError
from vc_core.frozen import frozen

if TYPE_CHECKING:
    from vc_core.config.pod import PodConfig
    from vc_core.podfile.document import Document

#: Names the file to read in the place of the others.
CONFIG_VARIABLE = "VIRTCONTAINERS_CONFIG"

_SYSTEM, _NAME = Path("/etc"), "virtcontainers/config.toml"

#: Bytes of a file; one with all settings has some hundred.
_SIZE_MAX = 64 * 1024


@frozen(kw_only=True)
class PodDefaults:
    """The table ``[pod]``: what pods have whose caller does not choose."""

    hypervisor: str = DEFAULT_HYPERVISOR  #: driver of the hypervisor
    agent: str = DEFAULT_AGENT  #: driver of the agent
    cpus: Count = 0  #: virtual CPUs; 0: as the hypervisor's driver has it
    memory: Count = 0  #: MiB of the VM; 0: as the hypervisor's driver has it
    strict: bool = False  #: a pod starts only in a full jail

    def __post_init__(self) -> None:
        check_fields(self)

    def complete(self, config: PodConfig) -> PodConfig:
        """Return a pod's configuration with these values where its caller chose none.

        ``strict`` stays as it is: it is read again at each start. Called when a pod, or a template, is made.
        """
        size = config.vm_config
        return replace(
            config,
            hypervisor_type=config.hypervisor_type or self.hypervisor,
            agent_type=config.agent_type or self.agent,
            vm_config=replace(size, vcpus=size.vcpus or self.cpus, memory=size.memory or self.memory),
        )


@frozen(kw_only=True)
class TemplateLimits:
    """The table ``[templates]``."""

    size: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] = 2048  #: MiB that all templates may have together

    def __post_init__(self) -> None:
        check_fields(self)


@frozen(kw_only=True)
class Settings:
    """The values of the configuration files; the fields are the tables of a file."""

    pod: PodDefaults = PodDefaults()
    templates: TemplateLimits = TemplateLimits()

    def __post_init__(self) -> None:
        check_fields(self)


@frozen
class SettingsFiles:
    """The configuration files that exist, in the order in which they were read, and their values together."""

    documents: tuple[Document, ...] = ()
    settings: Settings = field(default_factory=Settings)

    @classmethod
    def read(cls, environment: Mapping[str, str] | None = None) -> SettingsFiles:
        """Return the files of this user and environment (by default, of this process). No file is no error.

        Raises ConfigError for a file that is not valid, or that another user than root and this one could have written.
        """
        environment = os.environ if environment is None else environment
        documents: list[Document] = []
        settings = Settings()
        for path in _paths(environment):
            try:
                documents.append(_read(path))
            except FileNotFoundError:
                if environment.get(CONFIG_VARIABLE):
                    raise ConfigError(f"configuration file {str(path)!r}, of {CONFIG_VARIABLE}, is not there") from None
                continue
            settings = _with_values(settings, documents[-1])
        return cls(tuple(documents), settings)

    def origin(self, table: str, key: str) -> str:
        """Return where a value is from: ``FILE:LINE``, or "" if it is built in."""
        for document in reversed(self.documents):
            if key in document.values.get(table, {}):
                return f"{document.name}:{document.line((table, key))}"
        return ""


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of this user and environment (by default, of this process). No file is no error.

    Called when a pod is created and when it starts. Raises ConfigError as :meth:`SettingsFiles.read`.
    """
    return SettingsFiles.read(environment).settings


def _with_values(settings: Settings, document: Document) -> Settings:
    """Return settings with those of a file, which win. Raises ConfigError."""
    given = document.build(Settings)
    changed: dict[str, Any] = {}
    for one in fields(settings):
        keys = document.values.get(one.name, {})
        table = getattr(given, one.name)
        changed[one.name] = replace(getattr(settings, one.name), **{key: getattr(table, key) for key in keys})
    return replace(settings, **changed)


def _paths(environment: Mapping[str, str]) -> list[Path]:
    if given := environment.get(CONFIG_VARIABLE, ""):
        if not Path(given).is_absolute():  # a supervisor reads it, too, in another directory
            raise ConfigError(f"{CONFIG_VARIABLE} is {given!r}; give an absolute path")
        return [Path(given)]
    if host_user() == 0:
        return [_SYSTEM / _NAME]
    given = environment.get("XDG_CONFIG_HOME", "")
    own = Path(given) if Path(given).is_absolute() else Path(environment.get("HOME") or Path.home(), ".config")
    return [_SYSTEM / _NAME, own / _NAME]


def _read(path: Path) -> Document:
    """Return a file. Raises ConfigError, FileNotFoundError."""
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
        text = os.read(fd, _SIZE_MAX).decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name} is not UTF-8; save it as UTF-8") from error
    except OSError as error:
        raise ConfigError(f"{name} cannot be read: {error.strerror}") from error
    finally:
        os.close(fd)
    from vc_core.podfile.document import Document  # most hosts have no file
    from vc_core.podfile.formats import Format

    return Document.parse(str(path), text, Format.TOML)


def _trusted() -> set[int]:
    """Return the owners that a file may have: root and this user.

    In the user namespace of a plain user's supervisor root has the id of all users who have none there. A file that one
    of them owns was refused outside, when the pod was created.
    """
    return {root_owner(), os.geteuid()}
