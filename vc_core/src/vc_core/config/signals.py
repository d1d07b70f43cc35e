"""Converts signals given by name or number to Linux' numbers, which host and guest share."""

from __future__ import annotations

import signal

from vc_core.errors import ConfigError

#: The highest signal number (signal(7), SIGRTMAX).
_LAST = 64


def number(given: int | str) -> int:
    """Return the number of a signal given as 15, "15", "TERM" or "SIGTERM", in any case. Raises ConfigError."""
    text = str(given).strip().upper()
    if text.isascii() and text.isdecimal():
        if 1 <= int(text) <= _LAST:
            return int(text)
    elif found := signal.Signals.__members__.get(text if text.startswith("SIG") else f"SIG{text}"):
        return int(found)
    raise ConfigError(f"signal {given!r} is unknown; give a name such as SIGTERM, or a number from 1 to {_LAST}")
