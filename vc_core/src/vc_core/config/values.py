"""Checks that the configuration's dataclasses share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vc_core.errors import ConfigError


def set_fields(instance: object, **values: object) -> None:
    """Set fields of a frozen dataclass; called by its ``__post_init__``."""
    for name, value in values.items():
        object.__setattr__(instance, name, value)


def check_texts(what: str, values: Iterable[str]) -> tuple[str, ...]:
    """Return strings as a tuple. Raises ConfigError, which calls them ``what``, unless all are UTF-8 without NUL."""
    if isinstance(values, str):
        raise ConfigError(f"{what} is the string {values!r}; give a list of strings")
    texts = tuple(values)
    for text in texts:
        if not isinstance(text, str):
            raise ConfigError(f"{what} holds {text!r}, which is not a string")
        if "\0" in text:
            raise ConfigError(f"{what} holds {text!r}; no string may contain a NUL character")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ConfigError(
                f"{what} holds {text!r}, which is not valid UTF-8; encode such data or use stdin"
            ) from None
    return texts


def path_text(path: Any) -> str:
    """Return a path given as str or PathLike as absolute text, for processes that work elsewhere; empty stays empty.

    Raises ConfigError for a path that is not in UTF-8.
    """
    text = path if isinstance(path, str) else str(path)
    absolute = str(Path(text).absolute()) if text else ""
    try:
        absolute.encode()
    except UnicodeEncodeError:
        # Records and requests are JSON.
        raise ConfigError(f"path {absolute!r} is not in UTF-8; rename it, or give a link to it") from None
    return absolute


def check_count(name: str, value: object) -> None:
    """Raise ConfigError unless a value is a whole number that fits in 31 bits."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**31:
        raise ConfigError(f"{name} is {value!r}; give a whole number, 0 for the default")


def split_parts(what: str, text: str, form: str, access: bool = False) -> tuple[list[str], bool]:
    """Return the parts of a text such as ``TAG:PATH``, and whether it means read-only access (``:rw`` at its end)."""
    parts = text.split(":")
    read_only = not access or parts[-1] not in ("rw", "ro") or parts.pop() == "ro"
    if len(parts) != form.count(":") + 1 or not all(parts):
        raise ConfigError(f"{what} {text!r} is not of the form {form}{'[:rw]' if access else ''}")
    return parts, read_only


def join_parts(*parts: str, read_only: bool = True) -> str:
    """Return what :func:`split_parts` splits."""
    return ":".join((*parts, *([] if read_only else ["rw"])))
