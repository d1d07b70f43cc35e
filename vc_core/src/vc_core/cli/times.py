"""Times on the command line: a moment, or how long ago it was."""

from __future__ import annotations

import re
import time

import click

#: Seconds of the units of _AGO.
_SECONDS = (86400, 3600, 60, 1)
_AGO = r"(?:([0-9]+)d)?(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+(?:\.[0-9]+)?)s)?"


def moment(context: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    """Return a moment as seconds since the epoch: given as these, as ISO 8601, or as the time since then, as 1h30m.

    The callback of an option. Raises click.BadParameter.
    """
    return None if text is None else parse_moment(text)


def parse_moment(text: str) -> float:
    """Return a moment as :func:`moment` does. Raises click.BadParameter."""
    from datetime import datetime  # lists of pods do without

    if text and (parts := re.fullmatch(_AGO, text)):
        ago = zip(parts.groups("0"), _SECONDS, strict=True)
        return time.time() - sum(float(part) * seconds for part, seconds in ago)
    try:
        return float(text) if re.fullmatch(r"[0-9.]+", text) else datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError) as error:
        message = f"{text!r} is no time; give one such as 10m, 1h30m or 2030-01-31T12:00:00Z"
        raise click.BadParameter(message) from error


since_option = click.option(
    "--since", callback=moment, metavar="TIME", help="Leave out what is older: 10m, 1h30m or 2030-01-31T12:00:00Z."
)


def stamp(seconds: float) -> str:
    """Return a moment, in seconds since the epoch, as RFC 3339 in UTC, with microseconds."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def since(seconds: float) -> str:
    """Return how long ago a moment was, in the largest unit of which two have passed, as kubectl does."""
    ago = max(0, int(time.time() - seconds))
    for unit, letter in zip(_SECONDS, "dhm", strict=False):
        if ago >= 2 * unit:
            return f"{ago // unit}{letter}"
    return f"{ago}s"
