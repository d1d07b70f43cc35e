"""What differs between machines, as a table."""

from __future__ import annotations

from dataclasses import dataclass

from vc_core.errors import GuestError


@dataclass(frozen=True, slots=True)
class Architecture:
    """One machine: Debian's name for it, its kernel package, and the kernel parameters that every guest on it gets."""

    debian: str
    kernel_package: str
    kernel_params: tuple[str, ...]


#: By ``uname -m``. The *cloud* flavour of Debian's kernel is smaller, but has no 9p.
ARCHITECTURES = {
    "x86_64": Architecture("amd64", "linux-image-amd64", ("console=ttyS0", "panic=-1")),
    "aarch64": Architecture("arm64", "linux-image-arm64", ("console=ttyAMA0", "panic=-1")),
}


def architecture(machine: str) -> Architecture:
    """Return the table's row for a machine (``uname -m``). Raises GuestError for one that is not in it."""
    try:
        return ARCHITECTURES[machine]
    except KeyError:
        raise GuestError(
            f"no guest can be built for the machine {machine!r}; known are {', '.join(ARCHITECTURES)}"
        ) from None
