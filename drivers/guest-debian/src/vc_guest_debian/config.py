"""Options of the driver ``debian``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from vc_core.driver import read_options
from vc_core.errors import ConfigError

#: Debian policy, section 5.6.7: at least two lower-case letters, digits, ``+ - .``, of which the first is a letter or
#: digit.
PACKAGE_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class DebianConfig:
    """Options of the guest driver ``debian``.

    ``kernel_package``: the package that is, or depends on, the kernel; empty means the architecture's usual one.
    ``lockdown``: the guest's kernel protects itself from the guest's root (kernel_lockdown(7), confidentiality).
    """

    kernel_package: str = ""
    lockdown: bool = True

    def __post_init__(self) -> None:
        name = self.kernel_package
        if name and not PACKAGE_NAME.fullmatch(name):
            raise ConfigError(
                f"option kernel_package of guest driver debian is {name!r}; give the name of a Debian package"
            )

    @classmethod
    def from_mapping(cls, options: Mapping[str, object]) -> DebianConfig:
        """Return the configuration that ``options`` describe.

        Raises ConfigError for an unknown option or a bad value, naming both.
        """
        return read_options(cls, options, "guest driver debian")
