"""Options of the agent ``hyperstart`` (Go's ``HyperConfig``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vc_core.driver import Socket, Volume, read_options
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
                raise ConfigError(f"option {name} of agent hyperstart is {value!r}; give a path")
        object.__setattr__(self, "volumes", _items("volumes", self.volumes, Volume))
        object.__setattr__(self, "sockets", _items("sockets", self.sockets, Socket))
        if len(self.sockets) not in (0, 2):
            raise ConfigError(
                f"option sockets of agent hyperstart has {len(self.sockets)} entries; "
                "give two, for control and stream channel, or none"
            )
        if self.sockets and (self.sock_ctl_name or self.sock_tty_name):
            raise ConfigError(
                "options sockets and sock_ctl_name or sock_tty_name of agent hyperstart exclude each other"
            )

    @classmethod
    def from_mapping(cls, options: Mapping[str, object]) -> HyperstartConfig:
        """Return the configuration that ``options`` describe.

        Raises ConfigError for an unknown option or a bad value, naming both.
        """
        return read_options(cls, options, "agent hyperstart")

    def to_mapping(self) -> dict[str, object]:
        """Return JSON-able options, from which :meth:`from_mapping` makes an equal configuration."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items() if value
        }


def _items(name: str, values: Any, cls: type) -> tuple[Any, ...]:
    """Return a list of ``cls`` as a tuple. Raises ConfigError."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ConfigError(f"option {name} of agent hyperstart is {values!r}; give a list")
    for value in values:
        if not isinstance(value, cls):
            raise ConfigError(f"option {name} of agent hyperstart holds {value!r}; give {cls.__name__} objects")
    return tuple(values)
