"""The rule for ids of pods and containers."""

from __future__ import annotations

import re
import uuid

from vc_core.errors import ConfigError

#: Letters, digits, ``_.-``, starting with a letter or digit, 64 characters at most. No id can be ``.`` or ``..``.
ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)


def check_id(what: str, value: str) -> str:
    """Return ``value`` if it may be the id of ``what`` ("pod", "container").

    Raises ConfigError.
    """
    if not isinstance(value, str) or not ID_PATTERN.fullmatch(value):
        raise ConfigError(
            f"{what} id {value!r} is not valid: use 1 to 64 letters, digits, '_', '.' or '-', "
            "starting with a letter or digit"
        )
    return value


def new_id() -> str:
    """Return a fresh id for a pod whose caller gave none."""
    return str(uuid.uuid4())
