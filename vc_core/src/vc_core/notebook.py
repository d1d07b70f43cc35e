"""How results look in a notebook: HTML in which nothing that a guest chose is markup. Called by ``_repr_html_``."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from vc_core.text import printable

#: Characters of a stream that a notebook shows.
_SHOWN_MAX = 10_000


def details(title: str, rows: Sequence[tuple[str, object]]) -> str:
    """Return a table of names and values; rows without a value are left out."""
    shown = ((name, _text(value)) for name, value in rows if value not in ("", None, (), False))
    body = "".join(f"<tr><th style='text-align:left'>{escape(name)}</th><td>{text}</td></tr>" for name, text in shown)
    return f"<table><caption style='text-align:left'>{_text(title)}</caption>{body}</table>"


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table with a row of headers."""
    head = "".join(f"<th>{escape(header)}</th>" for header in headers)
    body = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def stream(name: str, data: bytes) -> str:
    """Return what a command wrote, line by line, the first part of it if it is long; "" for nothing."""
    if not data:
        return ""
    lines = data.decode(errors="surrogateescape")[:_SHOWN_MAX].split("\n")
    text = "\n".join(_text(line.rstrip("\r").replace("\t", " " * 8)) for line in lines)
    more = f"\n... {len(data)} bytes in all" if len(data) > _SHOWN_MAX else ""
    return f"<div>{escape(name)}</div><pre>{text}{more}</pre>"


def _text(value: object) -> str:
    return escape(printable(str(value)))
