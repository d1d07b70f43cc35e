"""Options of the driver ``debian``."""

from __future__ import annotations

import re
from typing import Annotated

from vc_core.driver import frozen
from vc_core.errors import ConfigError

#: The file in the initramfs that lists its modules in load order; with .NAME, one of the lists for later. See
#: vc_core.driver.GuestPayload.
LOAD_LIST = "/lib/modules/load"

#: Debian policy, section 5.6.7: at least two lower-case letters, digits, ``+ - .``, of which the first is a letter or
#: digit.
PACKAGE_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+", re.ASCII)


@frozen(kw_only=True)
class DebianConfig:
    """Options of the guest driver ``debian``."""

    kernel_package: Annotated[
        str,
        "the package that is, or depends on, the kernel; without it, that of the architecture: linux-image-amd64 or "
        "linux-image-arm64. The cloud flavour has no 9p",
    ] = ""
    lockdown: Annotated[
        bool,
        "the guest's kernel protects itself from the guest's root (kernel_lockdown(7), confidentiality) and loads only "
        "modules that Debian signed; false to trace the guest's kernel, or for a kernel without signed modules",
    ] = True

    def __post_init__(self) -> None:
        name = self.kernel_package
        if name and not PACKAGE_NAME.fullmatch(name):
            raise ConfigError(
                f"option kernel_package of guest driver debian is {name!r}; give the name of a Debian package"
            )
