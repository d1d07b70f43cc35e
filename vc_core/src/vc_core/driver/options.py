"""The options of a driver: the fields of a frozen dataclass, with their types, defaults and descriptions.

A driver returns the class from the hook ``vc_driver_options``:

    @frozen(kw_only=True)
    class ToyConfig:
        machine: Annotated[Literal["big", "small"], "size of the machine"] = "big"

The core reads the options that a caller gave into an object of it, and lists them for ``virtc`` and the documentation.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from functools import lru_cache
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    TypeGuard,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec

from vc_core.config.values import quoted, similar_name
from vc_core.config.words import LISTS, MAPPINGS, in_words
from vc_core.decoding import convert
from vc_core.errors import ConfigError
from vc_core.frozen import frozen

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_T = TypeVar("_T", bound="DataclassInstance")

#: Most levels of lists and mappings in the value of an option; more than any option needs, and far fewer than the
#: thousand calls in each other that Python allows.
NESTING_MAX = 32

#: What errors about more levels say to do.
NESTING_ADVICE = f"give at most {NESTING_MAX} levels"


#: Most characters of a key in an error.
_KEY_MAX = 60


@frozen(kw_only=True)
class NoOptions:
    """The configuration of a driver that declares no options."""


@frozen(kw_only=True)
class Option:
    """One option of a driver. ``type``: what to give, in words; ``default``: as JSON holds it, None if ``required``."""

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
            type=in_words(option_types(cls)[field.name]),
            default=None if _is_required(field) else plain(_default(field)),
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
    object. A sequence becomes a tuple, except for a field of type ``list``. A dataclass, such as each entry of a field
    that is a sequence of them, is given as a mapping, which is read in the same way.
    Checks beyond types belong into ``__post_init__`` of ``cls``.
    Raises ConfigError for an unknown option, for a value of another type, for a number that is not finite, for
    more than NESTING_MAX levels of lists and mappings, and for a missing option without a default; the error names the
    option or the entry of it, the value and what to give.
    """
    types = option_types(cls)
    for name in options:
        if name not in types:
            meant = similar_name(str(name), types)
            guess = f" (did you mean {meant!r}?)" if meant else ""
            raise ConfigError(
                f"{owner} has no option {quoted(name)}{guess}; it has {', '.join(types) or 'none'}", field=str(name)
            )
    for field in fields(cls):
        if field.init and field.name not in options and _is_required(field):
            raise ConfigError(f"option {field.name} of {owner} is missing; give {in_words(types[field.name])}")
    for name, value in options.items():
        _check_nesting(value, name, owner)
    return cls(**{name: _value(types[name], value, name, owner) for name, value in options.items()})


def plain(value: object) -> object:
    """Return an option's value or an object of an options class as JSON holds it, such as the value of an enumeration.

    Called for defaults that are listed, and by the check that a configuration's fields are options that make it again.
    """
    if isinstance(value, Enum):
        return plain(value.value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value) if field.init}
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(entry) for key, entry in value.items()}
    if _is_list(value):
        return [plain(entry) for entry in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _default(field: Field[Any]) -> object:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _description(hint: Any) -> str:
    """Return the text of ``Annotated[type, "text"]``, empty if there is none."""
    texts = [one for one in get_args(hint)[1:] if isinstance(one, str)] if get_origin(hint) is Annotated else []
    return texts[0] if texts else ""


def _value(wanted: Any, value: object, name: str, owner: str) -> object:
    """Return the value of one option, or of an entry of it, which ``name`` leads to. Raises ConfigError."""
    origin, parts = get_origin(wanted) or wanted, get_args(wanted)
    if origin in (Union, UnionType):
        return _one_of(wanted, value, name, owner)
    if wanted in (Any, object):  # as JSON holds it
        origin = dict if isinstance(value, Mapping) else list if isinstance(value, (list, tuple)) else wanted
    if origin in LISTS and _is_list(value) and len({*parts} - {...}) <= 1:
        part = parts[0] if parts else Any
        entries = [_value(part, entry, f"{name}[{number}]", owner) for number, entry in enumerate(value)]
        return entries if origin is list else tuple(entries)
    if origin in MAPPINGS and isinstance(value, Mapping):
        key_type, part = parts or (Any, Any)
        return {
            _key(key_type, key, name, owner): _value(part, entry, _entry_name(name, key), owner)
            for key, entry in value.items()
        }
    if is_dataclass(wanted) and isinstance(wanted, type) and isinstance(value, Mapping):
        try:
            return read_options(wanted, value, f"option {name} of {owner}")
        except ConfigError as error:
            error.field = f"{name}.{error.field}" if error.field else name
            raise
    return _simple_value(wanted, value, name, owner)


def _key(wanted: Any, key: object, name: str, owner: str) -> object:
    """Return a key of an option that is a mapping. Raises ConfigError."""
    try:
        return _value(wanted, key, name, owner)
    except ConfigError as error:
        raise ConfigError(
            f"option {name} of {owner} has the key {quoted(key)}; give {in_words(wanted)}", field=name
        ) from error


def _entry_name(name: str, key: object) -> str:
    """Return the name of an entry of an option that is a mapping, for errors: short, whatever the key is."""
    text = str(key)
    return f"{name}.{text if len(text) <= _KEY_MAX else f'{text[:_KEY_MAX]}...'}"


def _one_of(wanted: Any, value: object, name: str, owner: str) -> object:
    """Return the value of an option that may be of several types. Raises ConfigError."""
    others = [part for part in get_args(wanted) if part is not NoneType]
    if value is None and len(others) < len(get_args(wanted)):
        return None
    if len(others) == 1:
        return _value(others[0], value, name, owner)
    if not (isinstance(value, Mapping) or _is_list(value)):
        return _simple_value(wanted, value, name, owner)
    for part in others:
        with suppress(ConfigError):
            return _value(part, value, name, owner)
    raise _refused(wanted, value, name, owner)


def _simple_value(wanted: Any, value: object, name: str, owner: str) -> object:
    """Return a value that holds no others that have types. Raises ConfigError."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    try:
        # Only text is converted: the number 1 is not taken for true.
        read = convert(value, wanted, strict=not isinstance(value, str), dec_hook=_convert)
    except msgspec.ValidationError as error:
        raise _refused(wanted, value, name, owner) from error
    if isinstance(read, float) and not math.isfinite(read):  # JSON, which pods are stored in, has no such number
        raise ConfigError(f"option {name} of {owner} is {quoted(value)}; give a finite number", field=name)
    return read


def _refused(wanted: Any, value: object, name: str, owner: str) -> ConfigError:
    return ConfigError(f"option {name} of {owner} is {quoted(value)}; give {in_words(wanted)}", field=name)


def _is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray))


def _check_nesting(value: object, name: str, owner: str) -> None:
    """Raise ConfigError for a value of more than NESTING_MAX levels, such as a list that holds itself."""
    level = {id(value): value}  # each object once, because one may stand in a list many times
    for _ in range(NESTING_MAX):
        level = {
            id(entry): entry
            for one in level.values()
            for entry in (one.values() if isinstance(one, Mapping) else one if _is_list(one) else ())
            if isinstance(entry, Mapping) or _is_list(entry)
        }
    if level:
        raise ConfigError(
            f"option {name} of {owner} has too many lists or mappings in each other; {NESTING_ADVICE}", field=name
        )


def _convert(wanted: type, value: Any) -> Any:
    """Return a value of a type that msgspec does not read: text as a path, an object of the type as it is."""
    if wanted is Path and isinstance(value, str):
        return Path(value)
    if isinstance(value, wanted):
        return value
    raise msgspec.ValidationError(f"{value!r} is no {wanted}")
