"""Quotes what a plug-in made, an exception or a value, in an error; nothing that a plug-in defines can raise here."""

from __future__ import annotations

#: Most characters of a value in an error.
_REPR_MAX = 200


def one_line(error: BaseException) -> str:
    """Return the type and text of an exception on one line, and those of the exceptions in a group."""
    if isinstance(error, BaseExceptionGroup):
        return f"{type(error).__name__} of {', '.join(map(one_line, error.exceptions))}"
    try:
        text = " ".join(str(error).split())
    except BaseException as failure:
        text = f"its text cannot be had: str() raises {type(failure).__name__}"
    return f"{type(error).__name__}: {text}".removesuffix(": ")


def quoted(value: object) -> str:
    """Return the representation of a value, shortened."""
    try:
        text = repr(value)
    except BaseException as failure:
        return f"an object of {type(value).__name__}, whose repr() raises {type(failure).__name__}"
    return text if len(text) <= _REPR_MAX else f"{text[:_REPR_MAX]}..."
