"""Quotes an exception that a plug-in raised in an error; nothing that a plug-in defines can raise here."""

from __future__ import annotations


def one_line(error: BaseException) -> str:
    """Return the type and text of an exception on one line, and those of the exceptions in a group."""
    if isinstance(error, BaseExceptionGroup):
        return f"{type(error).__name__} of {', '.join(map(one_line, error.exceptions))}"
    try:
        text = " ".join(str(error).split())
    except BaseException as failure:
        text = f"its text cannot be had: str() raises {type(failure).__name__}"
    return f"{type(error).__name__}: {text}".removesuffix(": ")
