"""Tables: columns of text that fit a terminal, and colours on it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import chain

from vc_core.text import printable

#: Between two columns.
_GAP = "  "

#: Columns of a terminal that a cut cell keeps at least, with its mark.
_LEAST = 7

_CUT = "…"

#: SGR codes (ECMA-48) of the words that tables use for the state of something.
_COLOURS = {
    **dict.fromkeys(("running", "ok", "yes", "kept"), "32"),
    **dict.fromkeys(("paused", "warning"), "33"),
    **dict.fromkeys(("failed", "broken", "error"), "31"),
}


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], width: int | None, colours: bool) -> list[str]:
    """Return the lines of columns padded with spaces, two at least, without blanks at the end of a line.

    ``width``: columns of the terminal; what is too wide is cut, the first column, which names things, at last. None
    cuts nothing. ``colours``: on words for a state.
    """
    cells = [list(headers), *([printable(cell) for cell in row] for row in rows)]
    plain = all(map(str.isascii, chain.from_iterable(cells)))
    widths = [max(map(len if plain else _columns, column)) for column in zip(*cells, strict=True)]
    if plain and width is None and not colours:  # a list of thousands of pods that a program reads
        form = _GAP.join(f"{{:{columns}}}" for columns in widths)
        return [form.format(*row).rstrip() for row in cells]
    if width is not None:
        _shrink(widths, width)
    lines = []
    for number, row in enumerate(cells):
        shown = [_fitted(cell, columns) for cell, columns in zip(row, widths, strict=True)]
        shown[-1] = shown[-1].rstrip()
        if colours:
            shown = [coloured(cell) if number else _bold(cell) for cell in shown]
        lines.append(_GAP.join(shown).rstrip())
    return lines


def coloured(cell: str) -> str:
    """Return a word for a state, with the blanks behind it, in its colour; any other text as it is."""
    code = _COLOURS.get(cell.rstrip())
    return cell if code is None else f"\x1b[{code}m{cell}\x1b[0m"


def has_colours(fd: int) -> bool:
    """Return whether to write colours to a descriptor: to terminals, unless the user wants none (no-color.org)."""
    return os.isatty(fd) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def width_of(fd: int) -> int | None:
    """Return the columns of the terminal behind a descriptor, None for what is no terminal."""
    try:
        columns = os.get_terminal_size(fd).columns
    except OSError:
        return None
    given = os.environ.get("COLUMNS", "")
    return int(given) if given.isdecimal() and int(given) else columns or None


def _shrink(widths: list[int], limit: int) -> None:
    """Make columns smaller until they fit, the widest first; the first column only when no other one can be."""
    over = sum(widths) + len(_GAP) * (len(widths) - 1) - limit
    for columns in (range(1, len(widths)), range(1)):
        while over > 0 and columns:
            widest = max(columns, key=widths.__getitem__)
            if widths[widest] <= _LEAST:
                break
            widths[widest] -= 1
            over -= 1


def _fitted(text: str, columns: int) -> str:
    if _columns(text) > columns:
        while text and _columns(text) > columns - 1:
            text = text[:-1]
        text += _CUT
    return text + " " * (columns - _columns(text))


def _columns(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)


def _bold(cell: str) -> str:
    return f"\x1b[1m{cell}\x1b[0m" if cell.strip() else cell
