"""The table of machines for which guests can be built."""

from __future__ import annotations

from vc_core.driver import frozen
from vc_core.errors import GuestError


@frozen
class Architecture:
    """One machine: Debian's name for it, and its kernel package."""

    debian: str
    kernel_package: str


#: By ``uname -m``. The *cloud* flavour of Debian's kernel is smaller, but has no 9p.
_ARCHITECTURES = {
    "x86_64": Architecture("amd64", "linux-image-amd64"),
    "aarch64": Architecture("arm64", "linux-image-arm64"),
}


def architecture(machine: str) -> Architecture:
    """Return the row for a machine (``uname -m``). Raises GuestError for a machine that is not in the table."""
    try:
        return _ARCHITECTURES[machine]
    except KeyError:
        machines = ", ".join(_ARCHITECTURES)
        raise GuestError(f"no guest can be built for the machine {machine!r}, only for {machines}") from None
