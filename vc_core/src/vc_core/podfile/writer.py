"""Writes a PodConfig as a pod file, from which the same configuration is read."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from typing import Any

from vc_core.config.fields import short_form
from vc_core.config.pod import PodConfig
from vc_core.errors import ConfigError
from vc_core.podfile.formats import format_named


def dump_pod_config(config: PodConfig, *, format: str = "yaml") -> str:
    """Return a configuration as the text of a pod file: all fields but those that have their default value.

    ``format``: "yaml", "json" or "toml". :func:`load_pod_config` returns the same configuration for it.
    Raises ConfigError for another format, and for what TOML cannot hold, such as None in a driver's options.
    """
    text: str = format_named(format).module.write(_mapping(config))
    return text


def _plain(value: Any) -> Any:
    """Return a value of a configuration as the data of a file."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if not is_dataclass(value) or isinstance(value, type):
        return value
    if short_form(type(value)) == "text" and _is_text(value):
        return str(value)
    found = _mapping(value)
    return found["args"] if found.keys() == {"args"} and short_form(type(value)) == "list" else found


def _mapping(value: Any) -> dict[str, Any]:
    return {one.name: _plain(given) for one in fields(value) if (given := getattr(value, one.name)) != _default(one)}


def _default(one: Field[Any]) -> object:
    return one.default if one.default_factory is MISSING else one.default_factory()


def _is_text(value: Any) -> bool:
    """Return whether an object is read again from its text: a mount whose path has a colon is not."""
    try:
        return bool(type(value).parse(str(value)) == value)
    except ConfigError:
        return False
