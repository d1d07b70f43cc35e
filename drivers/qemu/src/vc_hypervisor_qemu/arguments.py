"""Writes one argument of QEMU: the only place where values are escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from vc_core.errors import ConfigError

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

#: For every virtio device: guests need no virtio from before version 1.0 (2016), whose code is older and larger.
MODERN = {"disable-legacy": "on"}


def text(what: str, value: object) -> str:
    """Return a value as one argument. Raises ConfigError for control characters, which QEMU's messages would repeat."""
    shown = str(value)
    if _CONTROL.search(shown):
        raise ConfigError(f"{what} {shown!r} contains a control character; rename it")
    return shown


def options(first: str, values: Mapping[str, str] | Iterable[tuple[str, str]]) -> str:
    """Return QEMU's ``first,key=value,...`` with every value escaped; ``values`` are pairs where a key comes twice.

    QEMU ends a value at a comma unless it is doubled; unescaped, a path with a comma could add options, and of two
    equal keys QEMU takes the last. Raises ConfigError for a control character.
    """
    items = values.items() if isinstance(values, Mapping) else values
    pairs = [f"{key}={text(key, value).replace(',', ',,')}" for key, value in items]
    return ",".join([first, *pairs] if first else pairs)
