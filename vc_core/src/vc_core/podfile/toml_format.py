"""Pod files in TOML; also the lines of configuration files."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from vc_core.errors import ConfigError
from vc_core.podfile.formats import Path, SyntaxRefused, escape

#: What may be missing where a text is cut after a line: the ends of arrays, of a text of several lines, or of both.
_ENDS = ("", "]", "]]", "]]]", '"""', "'''", '"""]', "''']")


def read(text: str) -> Any:
    """Return the data of a text. Raises SyntaxRefused."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        where = re.search(r"\(at (?:line (\d+)|end of document)", str(error))
        line = int(where[1]) if where and where[1] else text.count("\n") + 1
        sentence = re.sub(r" \(at (line \d+, column \d+|end of document)\)$", "", str(error))
        raise SyntaxRefused(line, f"is not TOML: {sentence}") from error
    except ValueError as error:  # int() for too many digits
        raise SyntaxRefused(1, f"is not TOML: {error}") from error


def find_line(text: str, path: Path) -> int:
    """Return the line of the value that a path leads to, or of the last one on the way that exists.

    That is the first line with which the text so far has the value. The library keeps no positions.
    """
    lines = text.splitlines(keepends=True)
    whole = tomllib.loads(text)
    path = path[: _depth(whole, path)]
    low, high = 0, len(lines)  # the value is there after ``high`` lines, not after ``low``
    while path and high - low > 1:
        middle = (low + high) // 2
        # A line in the middle of a statement that cannot be completed is left out: the statement begins before it.
        tried = middle
        while tried > low and (data := _cut(lines[:tried])) is None:
            tried -= 1
        if tried == low or _depth(data, path) < len(path):
            low = middle
        else:
            high = tried
    return max(high, 1) if path else 1


def write(data: object) -> str:
    """Return data as TOML. Raises ConfigError for null, which TOML does not have."""
    import tomli_w

    try:
        return escape(tomli_w.dumps(data), lambda char: f"\\U{ord(char):08x}")  # type: ignore[arg-type] # it is a dict
    except TypeError as error:
        raise ConfigError(f"a value of the configuration is not one of TOML: {error}; choose yaml or json") from error


def _cut(lines: list[str]) -> Any:
    """Return the data of the first lines of a text, with what is missing at their end; None if that is not known."""
    text = "".join(lines)
    for end in _ENDS:
        try:
            return tomllib.loads(text + end)
        except ValueError:
            continue
    return None


def _depth(data: Any, path: Path) -> int:
    """Return how many parts of a path lead to a value in the data."""
    for depth, part in enumerate(path):
        try:
            data = data[part]
        except (LookupError, TypeError):
            return depth
    return len(path)
