"""What to give for a value of a type, in words: for errors about it, and for lists of options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

#: Types whose values are lists, and those whose values are mappings.
LISTS, MAPPINGS = (Sequence, list, tuple), (Mapping, dict)

_WORDS: dict[object, str] = {
    str: "text",
    bytes: "bytes, in a file in base64",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    Path: "a path",
}

#: How the words for a type begin, and how those for several values of it do.
_PLURALS = (
    ("text", "texts"),
    ("a whole number", "whole numbers"),
    ("a number", "numbers"),
    ("a path", "paths"),
    ("a list", "lists"),
    ("a mapping", "mappings"),
)


def in_words(wanted: Any) -> str:
    """Return what to give for a value of a type, such as "a list of whole numbers".

    Called by the errors about a value and by the lists of drivers' options.
    """
    origin, parts = get_origin(wanted) or wanted, get_args(wanted)
    if origin in (Union, UnionType):
        return " or ".join(in_words(one) for one in parts if one is not NoneType)
    if origin is Annotated:
        bounds = next((f" from {one.ge} to {one.le}" for one in parts[1:] if isinstance(one, msgspec.Meta)), "")
        return in_words(parts[0]) + bounds
    if origin is Literal:
        return _one_of(parts)
    if origin in LISTS:
        return _with_entries("a list of", [part for part in parts if part is not ...])
    if origin in MAPPINGS:
        return _with_entries("a mapping to", parts[1:])
    if isinstance(wanted, type) and issubclass(wanted, Enum):
        return _one_of([one.value for one in wanted])
    if is_dataclass(wanted):
        return f"a mapping with {', '.join(field.name for field in fields(wanted) if field.init)}"
    return _WORDS.get(wanted, str(wanted))


def _with_entries(words: str, parts: Sequence[Any]) -> str:
    """Return "a list of texts" for "a list of" and the types of the entries; "a list" for those of any type."""
    if not parts or parts[0] in (Any, object):
        return words.rpartition(" ")[0]
    return f"{words} {', '.join(map(_plural, map(in_words, parts)))}"


def _plural(words: str) -> str:
    for one, several in _PLURALS:
        if words == one or words.startswith(f"{one} "):
            return several + words.removeprefix(one)
    return words


def _one_of(values: Sequence[object]) -> str:
    *others, last = map(str, values)
    return f"{', '.join(others)} or {last}" if others else last
