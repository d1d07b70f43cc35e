"""Options of the agent ``hyperstart`` (Go's ``HyperConfig``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from vc_core.driver import Socket, Volume, frozen
from vc_core.errors import ConfigError


@frozen(kw_only=True)
class HyperstartConfig:
    """Options of the agent ``hyperstart``."""

    sock_ctl_name: Annotated[str, "host path of the control channel's socket; without it, the hypervisor's choice"] = ""
    sock_tty_name: Annotated[str, "host path of the stream channel's socket; without it, the hypervisor's choice"] = ""
    volumes: Annotated[Sequence[Volume], "further directories that programs in the guest may mount by their tag"] = ()
    sockets: Annotated[
        Sequence[Socket], "two entries, for control and stream channel in full, instead of the first two options"
    ] = ()

    def __post_init__(self) -> None:
        for name in ("sock_ctl_name", "sock_tty_name"):
            value = getattr(self, name)
            if "\0" in value:
                raise ConfigError(f"option {name} of agent hyperstart is {value!r}; give a path")
        object.__setattr__(self, "volumes", tuple(self.volumes))
        object.__setattr__(self, "sockets", tuple(self.sockets))
        if len(self.sockets) not in (0, 2):
            raise ConfigError(
                f"option sockets of agent hyperstart has {len(self.sockets)} entries; "
                "give two, for control and stream channel, or none"
            )
        if self.sockets and (self.sock_ctl_name or self.sock_tty_name):
            raise ConfigError(
                "options sockets and sock_ctl_name or sock_tty_name of agent hyperstart exclude each other"
            )
