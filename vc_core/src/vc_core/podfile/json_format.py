"""Pod files in JSON."""

from __future__ import annotations

import json
import json.decoder
import json.scanner
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from vc_core.podfile.formats import Path, SyntaxRefused, escape


class _At(NamedTuple):
    """A value and where it begins in the text; the values in it are such pairs as well."""

    value: Any
    start: int


def read(text: str) -> Any:
    """Return the data of a text. Raises SyntaxRefused, also for a key that is given twice, NaN and infinity."""
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise SyntaxRefused(error.lineno, f"is not JSON: {error.msg}") from error
    except _TwiceError as error:
        raise SyntaxRefused(_line(text, _place_of_second(text)), str(error)) from error
    except ValueError as error:  # of _refuse_constant, and of int() for too many digits
        raise SyntaxRefused(1, f"is not read: {error}") from error


def find_line(text: str, path: Path) -> int:
    """Return the line of the value that a path leads to, or of the last one on the way that exists."""
    found = _locate(text)
    for part in path:
        try:
            found = found.value[part]
        except (LookupError, TypeError):
            break
    return _line(text, found.start)


def write(data: object) -> str:
    """Return data as JSON."""
    return escape(json.dumps(data, indent=2, ensure_ascii=False), _escaped) + "\n"


def _escaped(char: str) -> str:
    units = char.encode("utf-16-be").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


class _TwiceError(ValueError):
    """An object has two values for one key; ``second`` is the latter."""

    def __init__(self, key: str, second: Any) -> None:
        super().__init__(f"has the key {key!r} twice in one object; leave one out")
        self.second = second


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _TwiceError(key, value)
        found[key] = value
    return found


def _place_of_second(text: str) -> int:
    """Return where the second value of a key begins, in a text that has one."""
    try:
        return _locate(text).start
    except _TwiceError as error:
        return int(error.second.start)


def _line(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number of JSON; give another")


def _locate(text: str) -> _At:
    """Return the data of a valid text with the place of each value.

    The decoder of the standard library in Python calls one function for each value, which is wrapped here.
    """
    scanner: Any = json.scanner
    parts: Any = json.decoder
    decoder: Any = json.JSONDecoder(object_pairs_hook=_object)
    decoder.parse_object = lambda at, strict, scan, *more: parts.JSONObject(at, strict, _located(scan), *more)
    decoder.parse_array = lambda at, scan: parts.JSONArray(at, _located(scan))
    first = re.match(r"\s*", text)
    located, _ = _located(scanner.py_make_scanner(decoder))(text, first.end() if first else 0)
    return located


def _located(scan: Callable[[str, int], tuple[Any, int]]) -> Callable[[str, int], tuple[_At, int]]:
    def scan_located(text: str, start: int) -> tuple[_At, int]:
        value, end = scan(text, start)
        return _At(value, start), end

    return scan_located
