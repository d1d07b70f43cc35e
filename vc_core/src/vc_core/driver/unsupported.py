"""The error of an operation that a driver does not implement."""

from __future__ import annotations

from vc_core.errors import NotSupportedError


def unsupported(kind: str, driver: object, action: str) -> NotSupportedError:
    """Return the error that the default of an optional method raises. ``action`` completes "cannot ..."."""
    return NotSupportedError(f"{kind} driver {type(driver).__name__} cannot {action}")
