"""Makes a PodConfig of the data of a pod file; an error names the file, the line and the field."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args, get_origin

from vc_core.config.fields import field_types
from vc_core.config.pod import PodConfig
from vc_core.config.values import paths_below, quoted, similar_name
from vc_core.config.words import LISTS, in_words
from vc_core.errors import ConfigError
from vc_core.podfile.formats import Path, SyntaxRefused, format_named, format_of, path_text

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_T = TypeVar("_T", bound="DataclassInstance")

#: Bytes of a file at most; one with a hundred containers has some ten thousand. YAML of this size is read in 3 s.
SIZE_MAX = 256 * 1024

#: The key by which editors find the schema of a file.
SCHEMA_KEY = "$schema"


def load_pod_config(path: str | os.PathLike[str], *, format: str | None = None) -> PodConfig:
    """Return the configuration that a pod file describes.

    ``format``: "yaml", "json" or "toml"; None for that of the file's suffix, or else of its content. Relative paths in
    the file are those below its directory; of a file that is a pipe, those below the working directory.
    Raises ConfigError, which names the file, the line and the field.
    """
    try:
        with FilePath(path).open("rb") as file:
            data = file.read(SIZE_MAX + 1)
    except OSError as error:
        raise ConfigError(f"pod file {os.fspath(path)!r} cannot be read: {error.strerror}") from error
    directory = FilePath(path).absolute().parent if FilePath(path).is_file() else FilePath.cwd()
    return read_pod_config(data, os.fspath(path), directory, format)


def read_pod_config(data: bytes, name: str, directory: FilePath, format: str | None = None) -> PodConfig:
    """Return the configuration in the bytes of a pod file; ``name`` is that of the file, for errors and its suffix.

    ``directory``: of relative paths. Raises ConfigError.
    """
    chosen = None if format is None else format_named(format)
    if len(data) > SIZE_MAX:
        raise ConfigError(f"{name}: the file has more than {SIZE_MAX} bytes; a pod file is smaller")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{name}:{line}: the file is not UTF-8; save it as UTF-8") from error
    chosen = chosen or format_of(name, text)
    try:
        found = chosen.module.read(text)
        if not isinstance(found, dict):
            raise SyntaxRefused(1, f"is {quoted(found)}; give a mapping, such as containers: [...]")
    except SyntaxRefused as error:
        raise ConfigError(f"{name}:{error.line}: the file {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{name}: the file has too many lists or mappings in each other") from error
    found.pop(SCHEMA_KEY, None)
    try:
        with paths_below(directory):
            return _object(PodConfig, found, ())
    except _Refused as error:
        line = chosen.module.find_line(text, error.path)
        where = f" {path_text(error.path)}:" if error.path else ""
        raise ConfigError(f"{name}:{line}:{where} {error}", field=path_text(error.path)) from error


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
    if isinstance(value, str) and hasattr(cls, "parse"):
        with _located(path, cls.__name__):
            return cls.parse(value)
    if isinstance(value, list) and hasattr(cls, "args"):
        with _located(path, cls.__name__, field="args"):
            return cls(args=value)
    raise _Refused(path, f"it is {quoted(value)}; give {in_words(cls)}")


@contextmanager
def _located(path: Path, owner: str, field: str = "") -> Iterator[None]:
    """Add the path of an object to an error about one of its fields, and leave its class ``owner`` out.

    ``field``: the one that the path leads to already.
    """
    try:
        yield
    except ConfigError as error:
        parts = re.findall(r"\w+", (error.field or "").removeprefix(field))
        inner = [int(part) if part.isdecimal() else part for part in parts]
        raise _Refused((*path, *inner), str(error).removeprefix(f"{owner}.")) from error
