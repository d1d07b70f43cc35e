"""Options of the agent ``hyperstart`` (Go's ``HyperConfig``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from vc_core.driver import Socket, Volume
from vc_core.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class HyperstartConfig:
    """Options of the agent ``hyperstart``; all of them may be left out.

    ``sock_ctl_name`` and ``sock_tty_name`` are the host paths at which the hypervisor listens for the control and the
    stream channel (empty: its own choice). ``sockets``, none or two of them, describe control and stream channel in
    full instead. ``volumes`` are further directories that programs in the guest may mount by their tag.
    """

    sock_ctl_name: str = ""
    sock_tty_name: str = ""
    volumes: Sequence[Volume] = ()
    sockets: Sequence[Socket] = ()

    def __post_init__(self) -> None:
        for name in ("sock_ctl_name", "sock_tty_name"):
            value = getattr(self, name)
            if not isinstance(value, str) or "\0" in value:
                raise ConfigError(f"hyperstart option {name} is {value!r}; give a path")
        object.__setattr__(self, "volumes", _items("volumes", self.volumes, Volume))
        object.__setattr__(self, "sockets", _items("sockets", self.sockets, Socket))
        if len(self.sockets) not in (0, 2):
            raise ConfigError(
                f"hyperstart option sockets has {len(self.sockets)} entries; "
                "give two, for control and stream channel, or none"
            )
        if self.sockets and (self.sock_ctl_name or self.sock_tty_name):
            raise ConfigError("hyperstart options sockets and sock_ctl_name or sock_tty_name exclude each other")

    @classmethod
    def from_mapping(cls, options: Mapping[str, Any]) -> HyperstartConfig:
        """Return the configuration that ``options`` describe. Raises ConfigError for unknown keys and bad values."""
        _known("hyperstart option", options, cls)
        return cls(**options)

    def to_mapping(self) -> dict[str, object]:
        """Return JSON-able options, from which :meth:`from_mapping` makes an equal configuration."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items() if value
        }


def _known(what: str, mapping: Mapping[str, object], cls: type) -> None:
    names = [field.name for field in fields(cls)]
    for key in mapping:
        if key not in names:
            raise ConfigError(f"{what} {key!r} is unknown; use one of {', '.join(names)}")


def _items(name: str, values: Any, cls: type) -> tuple[Any, ...]:
    """Return a list of ``cls``, whose members may be given as mappings."""
    if isinstance(values, (str, Mapping)) or not isinstance(values, Sequence):
        raise ConfigError(f"hyperstart option {name} is {values!r}; give a list")
    items = []
    for value in values:
        if isinstance(value, Mapping):
            _known(f"key of hyperstart option {name}", value, cls)
            try:
                value = cls(**value)
            except TypeError as error:
                raise ConfigError(f"hyperstart option {name} holds {dict(value)!r}: {error}") from error
        if not isinstance(value, cls):
            raise ConfigError(f"hyperstart option {name} holds {value!r}; give {cls.__name__} objects or mappings")
        items.append(value)
    return tuple(items)
