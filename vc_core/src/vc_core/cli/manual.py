"""Makes a page of the manual for each command of virtc from its help.

Called by the build hook of this distribution, so that a wheel has the pages, and as ``./dev man``.
"""

from __future__ import annotations

import inspect
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from vc_core import __version__
from vc_core.cli.main import virtc

_EXAMPLE = re.compile(r"\s*^Example: (.*)\s*\Z", flags=re.MULTILINE)


def pages() -> Iterator[tuple[str, str]]:
    """Yield the name of each page without its section, and its text."""
    yield from _pages_of(virtc, click.Context(virtc, info_name="virtc", **virtc.context_settings))


def _pages_of(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    yield context.command_path.replace(" ", "-"), "".join(_page(command, context))
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from _pages_of(child, click.Context(child, info_name=name, parent=context))


def _page(command: click.Command, context: click.Context) -> Iterator[str]:
    """Yield the parts of a page, in the macros of man(7)."""
    name = context.command_path.replace(" ", "-")
    text = inspect.cleandoc(command.help or "")
    example = _EXAMPLE.search(text)
    yield f'.TH "{name.upper()}" "1" "" "virtc {__version__}" "virtcontainers"\n'
    yield f".SH NAME\n{roff(name)} \\- {roff(command.get_short_help_str(200).rstrip('.'))}\n"
    yield f".SH SYNOPSIS\n.B {roff(context.command_path)}\n{roff(' '.join(command.collect_usage_pieces(context)))}\n"
    yield f".SH DESCRIPTION\n{_paragraphs(_EXAMPLE.sub('', text))}"
    yield from _sections(command, context)
    if example:
        yield f".SH EXAMPLE\n.EX\n{roff(example[1])}\n.EE\n"
    if context.parent:
        yield f".SH SEE ALSO\n.BR {roff(context.parent.command_path.replace(' ', '-'))} (1)\n"


def _sections(command: click.Command, context: click.Context) -> Iterator[str]:
    """Yield what the help shows in lists: options, in their groups, and commands."""
    lists = _Lists()
    command.format_options(context, lists)
    for title, records in lists.sections:
        yield f".SH {roff(title.upper())}\n"
        for first, text in records:
            yield f".TP\n.B {roff(first)}\n{roff(text) or chr(92) + '&'}\n"


class _Lists(click.HelpFormatter):
    """Collects the lists of a help instead of writing them."""

    def __init__(self) -> None:
        super().__init__(width=1000)  # shortens nothing
        self.sections: list[tuple[str, list[tuple[str, str]]]] = []

    def write_heading(self, heading: str) -> None:
        self.sections.append((heading, []))

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        self.sections[-1][1].extend(rows)


def _paragraphs(text: str) -> str:
    parts = re.split(r"\n\s*\n", text.strip())
    return ".PP\n".join(f"{roff(' '.join(part.split()))}\n" for part in parts)


def roff(text: str) -> str:
    """Return text that groff sets as it is."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("\n", " ")
    return f"\\&{text}" if text.startswith((".", "\\(aq")) else text


def write_pages(directory: Path) -> None:
    """Write all pages below a directory that MANPATH can name, and nothing else. Raises OSError."""
    place = directory / "man1"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for name, text in pages():
        (place / f"{name}.1").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
