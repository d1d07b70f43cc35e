"""Validation of fields and of ``A:B`` texts, shared by the configuration's dataclasses, and values in its errors."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from vc_core.errors import ConfigError

#: Seconds that a caller may wait at most: 23 days. poll(2) takes milliseconds as an int.
TIMEOUT_MAX = 2_000_000

#: Most characters of a value in an error.
_REPR_MAX = 200

#: A size: a number, of which Python reads this many digits at once, and docker's unit.
_SIZE = r"(\d{1,18})([kmg]?)"

#: The directory of which relative paths are; a relative one is the working directory.
_base: ContextVar[Path] = ContextVar("base", default=Path())


def set_fields(instance: object, **values: object) -> None:
    """Set fields of a frozen dataclass. Called by its ``__post_init__`` only."""
    for name, value in values.items():
        object.__setattr__(instance, name, value)


def check_text(what: str, text: str, field: str) -> None:
    """Refuse what no file name, argument or file of this project can hold.

    ``what`` names the text in the error, ``field`` is its field. Raises ConfigError for a NUL character, and for text
    that cannot be encoded as UTF-8.
    """
    if "\0" in text:
        raise ConfigError(f"{what} is {quoted(text)}, which holds a NUL character; leave it out", field=field)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"{what} is {quoted(text)}, which is not valid UTF-8; rename such a file, encode such data or use stdin",
            field=field,
        ) from None


def absolute_path(path: str | os.PathLike[str]) -> str:
    """Return a path as an absolute one, because other processes use it; an empty one stays empty.

    A relative path is that of the working directory, or within :func:`paths_below` of the directory named there.
    Raises ConfigError for a path that cannot be encoded as UTF-8, and for a relative one in a directory that was
    removed.
    """
    text = os.fspath(path)
    try:
        absolute = str(Path(_base.get(), text).absolute()) if text else ""
    except FileNotFoundError as error:
        raise ConfigError(
            f"path {quoted(text)} is relative, and the working directory was removed; give an absolute one"
        ) from error
    try:
        absolute.encode()
    except UnicodeEncodeError:
        # Records and requests are JSON in UTF-8.
        raise ConfigError(f"path {absolute!r} is not valid UTF-8; rename it, or give a link to it") from None
    return absolute


@contextmanager
def paths_below(directory: Path) -> Iterator[None]:
    """Let relative paths of configurations that are made inside the block be those below ``directory``."""
    token = _base.set(directory)
    try:
        yield
    finally:
        _base.reset(token)


def split_parts(what: str, text: str, form: str, access: bool = False) -> tuple[list[str], bool]:
    """Return the parts of ``text``, which has the form ``form`` (such as "TAG:PATH"), and whether access is read-only.

    ``access``: the text may end with ``:ro`` or ``:rw``; read-only is the default. ``what`` names the text in errors.
    Raises ConfigError when the number of parts differs from that of ``form``, or one is empty.
    """
    parts = text.split(":")
    read_only = not access or parts[-1] not in ("rw", "ro") or parts.pop() == "ro"
    if len(parts) != form.count(":") + 1 or not all(parts):
        raise ConfigError(f"{what} {text!r} is not of the form {form}{'[:rw]' if access else ''}")
    return parts, read_only


def join_parts(*parts: str, read_only: bool = True) -> str:
    """Return the text that :func:`split_parts` splits into these parts."""
    return ":".join((*parts, *([] if read_only else ["rw"])))


def check_timeout(timeout: float | None, zero: bool = False, name: str = "timeout") -> None:
    """Raise ConfigError unless ``timeout`` is None or a number of seconds that a wait can take; ``zero`` allows 0.

    ``name``: what errors call it.
    """
    if timeout is None:
        return
    number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if not number or not (timeout > 0 or (zero and timeout == 0)) or timeout > TIMEOUT_MAX:
        least = "0 or more" if zero else "more than 0"
        raise ConfigError(f"{name} is {timeout!r}; give a number of seconds, {least} and at most {TIMEOUT_MAX}")


def parse_mib(text: str) -> int | None:
    """Return a size in MiB: that number, or as docker writes sizes, with k, m or g. None for what is no whole MiB."""
    match = re.fullmatch(_SIZE, text, re.ASCII | re.IGNORECASE)
    if match is None:
        return None
    kib = int(match[1]) * 1024 ** "kmg".index(match[2].lower() or "m")
    return None if kib % 1024 else kib // 1024


def similar_name(name: str, names: Iterable[str]) -> str:
    """Return the one of ``names`` that resembles ``name`` most, "" if none does. For errors about a name."""
    among = sorted(names)
    if not among:
        return ""
    import difflib  # only an error needs it

    return next(iter(difflib.get_close_matches(name, among, n=1)), "")


def quoted(value: object) -> str:
    """Return the representation of a value for an error, shortened; nothing that the value's class defines can raise.

    Called for values of any size and origin, such as those that a plug-in returned.
    """
    try:
        text = repr(value)
    except BaseException as failure:
        if isinstance(value, int):  # Python writes no int of more than 4300 digits
            return f"a whole number of {value.bit_length()} bits"
        return f"an object of {type(value).__name__}, whose repr() raises {type(failure).__name__}"
    return text if len(text) <= _REPR_MAX else f"{text[:_REPR_MAX]}..."
