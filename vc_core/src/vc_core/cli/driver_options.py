"""The options of a driver on the command line: ``NAME=VALUE``, read with the types that the driver declares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import is_dataclass
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import click
import msgspec

from vc_core.cli.options import pair
from vc_core.config.values import quoted
from vc_core.config.words import LISTS, MAPPINGS
from vc_core.decoding import convert, decode_json
from vc_core.driver.kinds import PluginKind
from vc_core.driver.options import NESTING_ADVICE, NESTING_MAX, option_types
from vc_core.plugins.registry import Plugins

#: How each kind of driver takes its options on the command line.
FLAGS = {
    PluginKind.HYPERVISOR: "--hypervisor-option NAME=VALUE",
    PluginKind.AGENT: "--agent-option NAME=VALUE",
    PluginKind.SPAWNER: "--agent-option spawner_options.NAME=VALUE",
    PluginKind.GUEST: "--guest-option NAME=VALUE",
}


def read_texts(flag: str, texts: Sequence[str], kind: PluginKind, name: str) -> dict[str, object]:
    """Return the options of the driver ``name`` that a repeatable flag gave, loading the driver only if there are any.

    Raises click.UsageError for a text of the wrong form, DriverError. Unknown options and values are left for the core
    to refuse.
    """
    pairs = [pair(flag, text) for text in texts]
    return parse(flag, pairs, Plugins().driver(kind, name).options_class()) if pairs else {}


def guest_texts(flag: str, texts: Sequence[str], guest: str, hypervisor: str) -> dict[str, object]:
    """Do the same for the guest driver ``guest`` or, if that is empty, for the one that the hypervisor driver names."""
    if texts and not guest:
        guest = Plugins().hypervisor(hypervisor).guest()
    return read_texts(flag, texts, PluginKind.GUEST, guest)


def parse(flag: str, pairs: Sequence[tuple[str, str]], cls: Any) -> dict[str, object]:
    """Return the options that names and texts describe, for the class of a driver's options.

    * A dot in a name leads into a mapping: ``spawner_options.program=x``.
    * A list is one text for each entry, or JSON: ``words=a words=b``, ``words=["a", "b"]``.
    * A mapping that is an entry of a list, or has a dot in a name, is JSON.
    * A number, ``true`` and ``false`` become what they are where the option has such a type. A text that is not one
      stays, for the core to refuse.

    Raises click.UsageError for an option that is given twice and is no list, for invalid JSON, and for more than
    NESTING_MAX levels of mappings in a name.
    """
    options: dict[str, Any] = {}
    for path, text in pairs:
        given = f"{flag} {quoted(f'{path}={text}')}"
        *parents, last = path.split(".")
        if len(parents) > NESTING_MAX:
            raise click.UsageError(f"{given}: the name has too many mappings in each other; {NESTING_ADVICE}")
        into, wanted = options, cls
        for name in parents:
            inner = into.setdefault(name, {})
            if not isinstance(inner, dict):
                raise click.UsageError(f"{given}: option {name} has the value {quoted(inner)} already")
            into, wanted = inner, _type_in(wanted, name)
        wanted = _type_in(wanted, last)
        value = _value(given, wanted, text)
        if last not in into:
            into[last] = value
        elif isinstance(into[last], list) and isinstance(value, list):
            into[last] = [*into[last], *value]
        else:
            raise click.UsageError(f"{given}: option {path} is given twice; its value is {quoted(into[last])} already")
    return options


def _type_in(outer: Any, name: str) -> Any:
    """Return the type of an option of a class, or of a value in a mapping; Any if it is not declared."""
    if is_dataclass(outer) and isinstance(outer, type):
        return _without_none(option_types(outer).get(name, Any))
    parts = get_args(outer)
    return _without_none(parts[1]) if get_origin(outer) in MAPPINGS else Any


def _without_none(wanted: Any) -> Any:
    """Return ``T`` for ``T | None``."""
    parts = [one for one in get_args(wanted) if one is not NoneType]
    return parts[0] if get_origin(wanted) in (Union, UnionType) and len(parts) == 1 else wanted


def _value(given: str, wanted: Any, text: str) -> object:
    """Return what a text is for a type; itself, if it is none of that type. Raises click.UsageError."""
    origin = get_origin(wanted) or wanted
    if origin in LISTS:
        if text.startswith("["):
            return _json(given, text)
        return [_value(given, get_args(wanted)[0] if get_args(wanted) else Any, text)]
    if origin in MAPPINGS or is_dataclass(origin):
        if not text.startswith("{"):
            raise click.UsageError(f"{given}: the option is a mapping; give NAME.KEY=VALUE for each key, or JSON")
        return _json(given, text)
    try:
        value = convert(text, wanted, strict=False)
    except (msgspec.ValidationError, TypeError):
        return text
    return value if isinstance(value, (bool, int, float, NoneType)) else text


def _json(given: str, text: str) -> object:
    try:
        return decode_json(text, object)
    except msgspec.DecodeError as error:
        raise click.UsageError(f"{given}: the value is not JSON: {error}") from error
    except RecursionError as error:
        raise click.UsageError(
            f"{given}: the value has too many lists or mappings in each other; {NESTING_ADVICE}"
        ) from error
