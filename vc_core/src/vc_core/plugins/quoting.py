"""Quotes an exception that a plug-in raised in an error; nothing that a plug-in defines can raise here."""

from __future__ import annotations

from vc_core.text import printable

#: Most characters of an exception's text in an error.
_TEXT_MAX = 2000


def one_line(error: BaseException) -> str:
    """Return the type and text of an exception on one line, and those of the exceptions in a group.

    A long text is shortened, and characters that cannot be printed, such as those that steer a terminal, are escaped.
    """
    if isinstance(error, BaseExceptionGroup):
        return _shortened(f"{type(error).__name__} of {', '.join(map(one_line, error.exceptions))}")
    try:
        text = " ".join(str(error).split())
    except BaseException as failure:
        text = f"its text cannot be had: str() raises {type(failure).__name__}"
    return f"{type(error).__name__}: {_shortened(text)}".removesuffix(": ")


def _shortened(text: str) -> str:
    kept = printable(text[:_TEXT_MAX])
    return f"{kept}... ({len(text) - _TEXT_MAX} characters more)" if len(text) > _TEXT_MAX else kept
