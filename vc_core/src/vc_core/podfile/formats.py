"""The formats of a pod file: which one a file has, and what their modules share."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from enum import StrEnum
from importlib import import_module
from pathlib import PurePath
from types import ModuleType

from vc_core.errors import ConfigError
from vc_core.text import printable

#: The keys and indexes that lead to a value in a file.
Path = tuple[str | int, ...]

#: The beginning of a line that only TOML has: ``[table]`` or ``key = ``.
_TOML_LINE = re.compile(r"""^(\[+[\w."' -]+\]+\s*(#.*)?$|[\w."'-]+\s*=)""")


class Format(StrEnum):
    """The format of a pod file."""

    YAML = "yaml"
    JSON = "json"
    TOML = "toml"

    @property
    def module(self) -> ModuleType:
        """The module with ``read``, ``find_line`` and ``write``, loaded on first use with the library that it needs."""
        return import_module(f"vc_core.podfile.{self}_format")


_SUFFIXES = {".yaml": Format.YAML, ".yml": Format.YAML, ".json": Format.JSON, ".toml": Format.TOML}


class SyntaxRefused(Exception):  # it becomes a ConfigError, with the file's name
    """A text that is not of its format, or has a part of it that pod files cannot have: the line, and a sentence."""

    def __init__(self, line: int, sentence: str) -> None:
        super().__init__(sentence)
        self.line = line


def format_named(name: str) -> Format:
    """Return a format by its name. Raises ConfigError."""
    try:
        return Format(name)
    except ValueError:
        raise ConfigError(f"format is {name!r}; give {', '.join(Format)}") from None


def format_of(name: str, text: str) -> Format:
    """Return the format of a file: by the suffix of its name, or by its first line that is no comment."""
    if found := _SUFFIXES.get(PurePath(name).suffix.lower()):
        return found
    lines = (line.strip() for line in text.splitlines())
    first = next((line for line in lines if line and not line.startswith("#")), "")
    if first.startswith("{"):
        return Format.JSON
    return Format.TOML if _TOML_LINE.match(first) else Format.YAML


def path_text(path: Sequence[str | int]) -> str:
    """Return a path as errors show it: ``containers[1].cmd``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{printable(part)}" for part in path)
    return text.removeprefix(".")


def escape(text: str, escaped: Callable[[str], str]) -> str:
    """Return a text in which ``escaped`` replaces each character that could steer a terminal, but for line breaks."""
    if printable(text.replace("\n", "")) == text.replace("\n", ""):
        return text
    return "".join(char if char == "\n" or printable(char) == char else escaped(char) for char in text)
