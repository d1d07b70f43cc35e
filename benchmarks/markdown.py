"""Parts of a section as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def paragraph(text: str) -> str:
    """Return a text that the source writes in several lines as the one line that Markdown makes of it anyway."""
    return " ".join(text.split())


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; the cells behind the first of a row are figures, so they are aligned on the right."""
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
