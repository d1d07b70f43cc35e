"""A file of configuration, and the objects that are made of it; an error names the file, the line and the field."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields, is_dataclass
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args, get_origin

from vc_core.config.fields import field_types, short_form
from vc_core.config.values import quoted, similar_name
from vc_core.config.words import LISTS, in_words
from vc_core.errors import ConfigError, DriverError
from vc_core.podfile.formats import Format, Path, SyntaxRefused, path_text

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_T = TypeVar("_T", bound="DataclassInstance")
_E = TypeVar("_E", bound=ConfigError | DriverError)

#: The field of a pod that names its driver of a kind.
_DRIVER_FIELDS = {
    "hypervisor": "hypervisor_type",
    "agent": "agent_type",
    "guest": "hypervisor_config.guest",
    "spawner": "agent_config",
}


@dataclass(frozen=True, slots=True)
class Document:
    """A file that is of its format. ``name``: of the file, for errors; ``values``: its data."""

    name: str
    form: Format
    text: str
    values: dict[str, Any]

    @classmethod
    def parse(cls, name: str, text: str, form: Format) -> Document:
        """Return the file with a name and a text. Raises ConfigError."""
        try:
            values = form.module.read(text)
            if values is None:
                raise SyntaxRefused(1, "is empty; give a mapping of fields to values")
            if not isinstance(values, dict):
                raise SyntaxRefused(1, f"is {quoted(values)}; give a mapping of fields to values")
        except SyntaxRefused as error:
            raise ConfigError(f"{name}:{error.line}: the file {error}") from error
        except RecursionError as error:
            raise ConfigError(f"{name}: the file has too many lists or mappings in each other") from error
        return cls(name, form, text, values)

    def build(self, cls: type[_T]) -> _T:
        """Return an object of a configuration's class, whose fields are those of the file. Raises ConfigError."""
        try:
            return _object(cls, self.values, ())
        except _Refused as error:
            where = f" {path_text(error.path)}:" if error.path else ""
            raise ConfigError(
                f"{self.name}:{self.line(error.path)}:{where} {error}", field=path_text(error.path)
            ) from error

    def locate(self, error: _E) -> _E:
        """Return an error about an object that was made of the file, with the file and the line if it names a field.

        Called for what is found out only when the object is used, such as an option that a driver does not have, or a
        driver that is not installed.
        """
        field = error.field if isinstance(error, ConfigError) else None
        if isinstance(error, DriverError):
            field = _DRIVER_FIELDS.get(error.kind or "")
        if not field:
            return error
        details = {name: getattr(error, name) for name in error.details}
        return type(error)(f"{self.name}:{self.line(_path(field))}: {field}: {error}", **details)

    def line(self, path: Path) -> int:
        """Return the line of the value that a path leads to, or of the last one on the way that exists."""
        found: int = self.form.module.find_line(self.text, path)
        return found


class _Refused(Exception):  # it becomes a ConfigError, with the file's name and the line
    """A value is not valid: the path that leads to it, and a sentence."""

    def __init__(self, path: Path, sentence: str) -> None:
        super().__init__(sentence)
        self.path = path


def _object(cls: type[_T], given: Mapping[str, Any], path: Path) -> _T:
    """Return an object of a configuration's class, for a mapping. Raises _Refused."""
    types = field_types(cls)
    for name in given:
        if name not in types:
            meant = similar_name(name, types)
            guess = f"did you mean {meant!r}?" if meant else f"it can be {', '.join(types)}"
            raise _Refused((*path, name), f"there is no field {name!r}; {guess}")
    for one in fields(cls):
        if one.name not in given and one.default is MISSING and one.default_factory is MISSING:
            raise _Refused(path, f"field {one.name!r} is missing; give {in_words(types[one.name])}")
    values = {name: _value(types[name], value, (*path, name)) for name, value in given.items()}
    with _located(path, cls.__name__):
        return cls(**values)


def _value(wanted: Any, value: Any, path: Path) -> Any:
    """Return a value for a field; what is of no use for it is left for the field's class to refuse. Raises _Refused."""
    origin, parts = get_origin(wanted) or wanted, get_args(wanted)
    if NoneType in parts and len(parts) == 2:
        return None if value is None else _value(parts[parts[0] is NoneType], value, path)
    if origin is Annotated:
        return value
    if origin in LISTS:
        if not isinstance(value, list):
            raise _Refused(path, f"it is {quoted(value)}; give {in_words(wanted)}")
        return [_value(parts[0], entry, (*path, index)) for index, entry in enumerate(value)]
    return _entry(wanted, value, path) if is_dataclass(wanted) else value


def _entry(cls: Any, value: Any, path: Path) -> Any:
    """Return an object of a configuration's class, in one of the forms that it has in a file. Raises _Refused."""
    if isinstance(value, dict):
        return _object(cls, value, path)
    short = short_form(cls)
    if isinstance(value, str) and short == "text":
        with _located(path, cls.__name__):
            return cls.parse(value)
    if isinstance(value, list) and short == "list":
        with _located(path, cls.__name__, field="args"):
            return cls(args=value)
    words = {"text": "text or ", "list": "a list of texts or "}.get(short, "")
    raise _Refused(path, f"it is {quoted(value)}; give {words}{in_words(cls)}")


def _path(field: str | None, known: str = "") -> Path:
    """Return the path that the text ``field`` of an error describes, without the part that is known already."""
    parts = re.findall(r"[^.\[\]]+", (field or "").removeprefix(known))
    return tuple(int(part) if part.isdecimal() else part for part in parts)


@contextmanager
def _located(path: Path, owner: str, field: str = "") -> Iterator[None]:
    """Add the path of an object to an error about one of its fields, and leave its class ``owner`` out.

    ``field``: the one that the path leads to already.
    """
    try:
        yield
    except ConfigError as error:
        raise _Refused((*path, *_path(error.field, field)), str(error).removeprefix(f"{owner}.")) from error
