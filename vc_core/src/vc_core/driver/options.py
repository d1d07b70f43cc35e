"""The options of a driver: the fields of a frozen dataclass, with their types, defaults and descriptions.

A driver returns the class from the hook ``vc_driver_options``:

    @dataclass(frozen=True, slots=True, kw_only=True)
    class ToyConfig:
        machine: Annotated[Literal["big", "small"], "size of the machine"] = "big"

The core reads the options that a caller gave into an object of it, and lists them for ``virtc`` and the documentation.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from enum import Enum
from functools import lru_cache
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    TypeGuard,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec

from vc_core.config.values import similar_name
from vc_core.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_T = TypeVar("_T", bound="DataclassInstance")

#: What to give for an option, by its type.
_WORDS: dict[object, str] = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    Path: "a path",
    Mapping: "a mapping",
    dict: "a mapping",
    Sequence: "a list",
    list: "a list",
    tuple: "a list",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NoOptions:
    """The configuration of a driver that declares no options."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option of a driver. ``type``: what to give, in words; ``default``: None if it is ``required``."""

    name: str
    type: str
    default: object
    required: bool
    description: str

    @property
    def default_text(self) -> str:
        """The default as it is written on a command line, or in words: "none", "required"."""
        if self.required:
            return "required"
        if self.default is None or self.default == "" or (self.default != 0 and not self.default):
            return "none"
        return self.default if isinstance(self.default, str) else json.dumps(self.default, default=str)


def is_options_class(value: object) -> TypeGuard[type[DataclassInstance]]:
    """Return whether a value is what ``vc_driver_options`` may return: a frozen dataclass, not an object of one."""
    return isinstance(value, type) and is_dataclass(value) and bool(vars(value)["__dataclass_params__"].frozen)


def list_options(cls: type[DataclassInstance]) -> tuple[Option, ...]:
    """Return the options that the fields of ``cls`` are, in their order.

    Called by ``virtc drivers``, the generator of the reference, and the check that each option is described.
    """
    described = get_type_hints(cls, include_extras=True)
    return tuple(
        Option(
            name=field.name,
            type=_in_words(option_types(cls)[field.name]),
            default=None if _is_required(field) else _default(field),
            required=_is_required(field),
            description=_description(described[field.name]),
        )
        for field in fields(cls)
        if field.init
    )


@lru_cache(maxsize=64)
def option_types(cls: type[DataclassInstance]) -> Mapping[str, Any]:
    """Return the type of each option, without its description. Raises what a type that cannot be read raises."""
    types = get_type_hints(cls)
    return {field.name: types[field.name] for field in fields(cls) if field.init}


def read_options(cls: type[_T], options: Mapping[str, object], owner: str) -> _T:
    """Return the dataclass ``cls`` made of ``options``, each of which is the field of that name.

    Called by the core before each call of a driver's create hook. ``owner`` names the driver in errors:
    "hypervisor qemu". A value must have the type of its field. A number, ``true`` and ``false`` may also be given as
    text, because an option in a mapping of any values may come from a command line; text may be given as a path
    object. A field that is a sequence of dataclasses is given as a list of mappings, which are read in the same way.
    Checks beyond types belong into ``__post_init__`` of ``cls``.
    Raises ConfigError for an unknown option, for a value of another type, and for a missing option without a default;
    the error names the option, the value and what to give.
    """
    types = option_types(cls)
    for name in options:
        if name not in types:
            meant = similar_name(name, types)
            guess = f" (did you mean {meant!r}?)" if meant else ""
            raise ConfigError(f"{owner} has no option {name!r}{guess}; it has {', '.join(types) or 'none'}")
    for field in fields(cls):
        if field.init and field.name not in options and _is_required(field):
            raise ConfigError(f"option {field.name} of {owner} is missing; give {_in_words(types[field.name])}")
    return cls(**{name: _value(types[name], value, name, owner) for name, value in options.items()})


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _default(field: Field[Any]) -> object:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _description(hint: Any) -> str:
    """Return the text of ``Annotated[type, "text"]``, empty if there is none."""
    texts = [one for one in get_args(hint)[1:] if isinstance(one, str)] if get_origin(hint) is Annotated else []
    return texts[0] if texts else ""


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
        return msgspec.convert(value, wanted, strict=not isinstance(value, str), dec_hook=_convert)
    except msgspec.ValidationError as error:
        raise ConfigError(f"option {name} of {owner} is {value!r}; give {_in_words(wanted)}") from error


def _convert(wanted: type, value: Any) -> Any:
    """Return a value of a type that msgspec does not read: text as a path, an object of the type as it is."""
    if wanted is Path and isinstance(value, str):
        return Path(value)
    if isinstance(value, wanted):
        return value
    raise msgspec.ValidationError(f"{value!r} is no {wanted}")


def _entry(cls: type[_T], entry: object, name: str, owner: str) -> _T:
    """Return one entry of an option that is a list of dataclasses. Raises ConfigError."""
    if isinstance(entry, cls):
        return entry
    if not isinstance(entry, Mapping):
        keys = ", ".join(field.name for field in fields(cls))
        raise ConfigError(f"option {name} of {owner} holds {entry!r}; give mappings of {keys}")
    return read_options(cls, entry, f"an entry of option {name} of {owner}")


def _in_words(wanted: Any) -> str:
    """Return what to give for an option of a type, in words."""
    origin, parts = get_origin(wanted), get_args(wanted)
    if origin in (Union, UnionType):
        return " or ".join(_in_words(one) for one in parts if one is not NoneType)
    if origin is Literal:
        return _one_of(parts)
    if isinstance(wanted, type) and issubclass(wanted, Enum):
        return _one_of([one.value for one in wanted])
    if parts and is_dataclass(parts[0]):
        return f"a list of mappings with {', '.join(field.name for field in fields(parts[0]))}"
    return _WORDS.get(origin or wanted, str(wanted))


def _one_of(values: Sequence[object]) -> str:
    *others, last = map(str, values)
    return f"{', '.join(others)} or {last}" if others else last
