"""Reads a driver's options, a mapping as the caller gave it, into the driver's own frozen dataclass."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from vc_core.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_T = TypeVar("_T", bound="DataclassInstance")

#: What an error asks for, by the type of the option.
_GIVE: dict[object, str] = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    Mapping: "a mapping",
    dict: "a mapping",
    Sequence: "a list",
    list: "a list",
    tuple: "a list",
}


def read_options(cls: type[_T], options: Mapping[str, object], owner: str) -> _T:
    """Return the dataclass ``cls`` made of ``options``, each of which is the field of that name.

    Called by a driver's config hook. ``owner`` names the driver in errors: "hypervisor qemu". A value must have the
    type of its field. A number, ``true`` and ``false`` may also be given as text, because options from a command line
    are text, and text may be given as a path object. A field that is a sequence of dataclasses is given as a list of
    mappings, which are read in the same way.
    Checks beyond types belong into ``__post_init__`` of ``cls``.
    Raises ConfigError for an unknown option, for a value of another type, and for a missing option without a default;
    the error names the option, the value and what to give.
    """
    types = get_type_hints(cls)
    named = {field.name: field for field in fields(cls) if field.init}
    for name in options:
        if name not in named:
            raise ConfigError(f"{owner} has no option {name!r}; it has {', '.join(named) or 'none'}")
    for name, field in named.items():
        if name not in options and field.default is MISSING and field.default_factory is MISSING:
            raise ConfigError(f"option {name} of {owner} is missing; give {_wanted(types[name])}")
    return cls(**{name: _value(types[name], value, name, owner) for name, value in options.items()})


def _value(wanted: Any, value: object, name: str, owner: str) -> object:
    """Return the value of one option. Raises ConfigError."""
    parts = get_args(wanted)
    if parts and is_dataclass(parts[0]) and isinstance(value, Sequence) and not isinstance(value, str):
        assert isinstance(parts[0], type)
        return tuple(_entry(parts[0], entry, name, owner) for entry in value)
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    try:
        # Only text is converted: the number 1 is not taken for true.
        return msgspec.convert(value, wanted, strict=not isinstance(value, str))
    except msgspec.ValidationError as error:
        raise ConfigError(f"option {name} of {owner} is {value!r}; give {_wanted(wanted)}") from error


def _entry(cls: type[_T], entry: object, name: str, owner: str) -> _T:
    """Return one entry of an option that is a list of dataclasses. Raises ConfigError."""
    if isinstance(entry, cls):
        return entry
    if not isinstance(entry, Mapping):
        keys = ", ".join(field.name for field in fields(cls))
        raise ConfigError(f"option {name} of {owner} holds {entry!r}; give mappings of {keys}")
    return read_options(cls, entry, f"an entry of option {name} of {owner}")


def _wanted(wanted: object) -> str:
    """Return what to give for an option of a type, in words."""
    if get_origin(wanted) in (Union, UnionType):
        return " or ".join(_wanted(one) for one in get_args(wanted) if one is not NoneType)
    return _GIVE.get(get_origin(wanted) or wanted, str(wanted))
