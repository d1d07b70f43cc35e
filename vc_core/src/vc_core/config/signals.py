"""Converts signals given by name or number to Linux' numbers, which host and guest share."""

from __future__ import annotations

import re
import signal

from vc_core.errors import ConfigError

#: The highest signal number (signal(7), SIGRTMAX).
_LAST = 64

#: Real-time signals by their distance from the first or the last one, as systemd and docker write them.
_REAL_TIME = r"(?:SIG)?(RTMIN\+|RTMAX-)([0-9]{1,2})"


def number(given: int | str) -> int:
    """Return the number of a signal given as 15, "15", "TERM", "SIGTERM" or "RTMIN+3", in any case.

    Raises ConfigError.
    """
    text = str(given).strip().upper()
    if text.isascii() and text.isdecimal():
        if 1 <= int(text) <= _LAST:
            return int(text)
    elif found := signal.Signals.__members__.get(text if text.startswith("SIG") else f"SIG{text}"):
        return int(found)
    elif real_time := re.fullmatch(_REAL_TIME, text):
        distance, first = int(real_time[2]), real_time[1] == "RTMIN+"
        if distance <= _LAST - signal.SIGRTMIN:
            return signal.SIGRTMIN + distance if first else _LAST - distance
    raise ConfigError(f"signal {given!r} is unknown; give a name such as SIGTERM, or a number from 1 to {_LAST}")
