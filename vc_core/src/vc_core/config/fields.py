"""Validates the fields of a configuration's dataclass by their declared types, when an object is made.

The types say all that is checked here: :data:`Count` is bounded, :data:`HostPath` is made absolute, a ``Sequence`` is
kept as a tuple. So what is made can be written to a file and read again, and the JSON Schema has the same rules.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import lru_cache, partial
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from vc_core.config.values import absolute_path, check_text, quoted, set_fields
from vc_core.config.words import LISTS, MAPPINGS, in_words
from vc_core.decoding import convert
from vc_core.errors import ConfigError
from vc_core.frozen import frozen

_Kept = TypeVar("_Kept", covariant=True)
_Given = TypeVar("_Given", contravariant=True)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    class Accepts(Generic[_Kept, _Given]):
        """The type of a field that is given as one type and kept as another: ``mode: Accepts[NetworkMode, str]``.

        Type checkers take it for a descriptor, at run time it is the first type.
        """

        def __get__(self, instance: object, owner: Any) -> _Kept: ...
        def __set__(self, instance: object, value: _Given) -> None: ...

else:

    class Accepts:  # noqa: D101 # the one above, at run time
        def __class_getitem__(cls, types: tuple[Any, Any]) -> Any:
            return types[0]


@frozen
class PathKind:
    """Marks a text as a path of this host, kept absolute. ``bare``: but for a name that is looked up in PATH."""

    bare: bool = False


#: A path of this host: text or a path object, kept as an absolute path in text; empty for none.
HostPath = Annotated[str, PathKind()]

#: The same for a program; a name without a slash is kept, and looked up in PATH.
HostProgram = Annotated[str, PathKind(bare=True)]

#: A number of things or MiB, usually with 0 for a default.
Count = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


@lru_cache(maxsize=64)
def field_types(cls: type[DataclassInstance]) -> Mapping[str, Any]:
    """Return the type of each field of a dataclass, with what annotates it."""
    return get_type_hints(cls, include_extras=True)


def short_form(cls: type[DataclassInstance]) -> str:
    """Return the short form of an object of a class: "text", which its ``parse`` reads, "list" of ``args``, or ""."""
    return "text" if hasattr(cls, "parse") else "list" if "args" in field_types(cls) else ""


def check_fields(instance: DataclassInstance) -> None:
    """Validate each field of a frozen dataclass, and keep it in the form that its type says.

    Called first by ``__post_init__``. Raises ConfigError, which names the class, the field, the value and what to give.
    """
    cls = type(instance)
    owner = f"{cls.__name__}."
    for name, default, keep in _keepers(cls):
        value = getattr(instance, name)
        if value is default:
            continue
        kept = keep(value, owner, name)
        if kept is not value:
            set_fields(instance, **{name: kept})


def check_type(what: str, value: object, wanted: type) -> None:
    """Raise ConfigError unless an argument of the API, ``what``, is an object of a configuration's class."""
    if not isinstance(value, wanted):
        raise _refused(wanted, value, "", what)


#: Returns a field's value, or an entry of it, as it is kept. Called with the value, and for errors with the class and
#: the field, with the indexes that lead to the entry. Raises ConfigError.
_Keep = Callable[[Any, str, str], object]


@lru_cache(maxsize=64)
def _keepers(cls: type[DataclassInstance]) -> Sequence[tuple[str, object, _Keep]]:
    """Return the name and the default of each field of a dataclass, and what keeps its values.

    Made once for each class, because each command that a pod runs is checked several times. Defaults need no check.
    """
    types = field_types(cls)
    return tuple((one.name, one.default, _keeper(types[one.name])) for one in fields(cls))


def _keeper(wanted: Any) -> _Keep:
    """Return what keeps values of a type."""
    origin, parts = get_origin(wanted) or wanted, get_args(wanted)
    if NoneType in parts and (inner := _optional(parts)) is not None:
        keep = _keeper(inner)
        return lambda value, owner, name: None if value is None else keep(value, owner, name)
    if wanted is Any or (origin is Annotated and parts[0] is Any):
        return lambda value, owner, name: value
    if origin is Annotated and isinstance(parts[1], PathKind):
        return partial(_path, parts[1])
    if origin in LISTS:
        return partial(_list, wanted, _keeper(parts[0]))
    if origin in MAPPINGS:
        return partial(_mapping, wanted)
    if is_dataclass(wanted) and isinstance(wanted, type):
        return partial(_object, wanted)
    if isinstance(wanted, type) and issubclass(wanted, Enum):
        return partial(_member, wanted)
    return partial(_scalar, wanted)


def _list(wanted: Any, keep: _Keep, value: object, owner: str, name: str) -> Sequence[object]:
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise _refused(wanted, value, owner, name)
    return tuple([keep(entry, owner, f"{name}[{index}]") for index, entry in enumerate(value)])


def _mapping(wanted: Any, value: object, owner: str, name: str) -> Mapping[object, object]:
    if not isinstance(value, Mapping):
        raise _refused(wanted, value, owner, name)
    return dict(value)


def _object(wanted: type, value: object, owner: str, name: str) -> object:
    if not isinstance(value, wanted):
        raise _refused(wanted, value, owner, name)
    return value


def _member(wanted: type[Enum], value: object, owner: str, name: str) -> Enum:
    try:
        return wanted(value)
    except ValueError:
        raise _refused(wanted, value, owner, name) from None


def _optional(parts: tuple[Any, ...]) -> Any:
    """Return the list or class of the configuration that a field holds unless it is None; None for another type."""
    return next((part for part in parts if is_dataclass(part) or get_origin(part) in LISTS), None)


def _path(kind: PathKind, value: object, owner: str, name: str) -> str:
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str):
        raise _refused(Path, value, owner, name)
    check_text(f"{owner}{name}", text, name)
    return text if kind.bare and "/" not in text else absolute_path(text)


def _scalar(wanted: Any, value: object, owner: str, name: str) -> object:
    kept: object = value
    if type(value) is not wanted:
        try:
            kept = convert(value, wanted)
        except (ValueError, msgspec.ValidationError):
            raise _refused(wanted, value, owner, name) from None
    if isinstance(kept, str):
        check_text(f"{owner}{name}", kept, name)
    return kept


def _refused(wanted: Any, value: object, owner: str, name: str) -> ConfigError:
    return ConfigError(f"{owner}{name} is {quoted(value)}; give {_words(wanted, value)}", field=name)


def _words(wanted: Any, value: object) -> str:
    """Return what to give, in words; for text or a list in the place of an object also how it becomes one."""
    if get_origin(wanted) in LISTS and is_dataclass(get_args(wanted)[0]):
        return f"a list of {get_args(wanted)[0].__name__} objects"
    if is_dataclass(wanted) and isinstance(wanted, type):
        name = wanted.__name__
        short = short_form(wanted)
        made = f"{name}.parse" if isinstance(value, str) and short == "text" else ""
        made = name if isinstance(value, (list, tuple)) and short == "list" else made
        return f"an object of {name}" + (f", such as {made}({quoted(value)})" if made else "")
    return in_words(wanted) + (", or None" if NoneType in get_args(wanted) else "")
