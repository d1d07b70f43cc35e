"""``--trace FILE`` and ``--timeline``: what a command did, and when, as a file and as bars in the terminal."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from vc_core import trace
from vc_core.cli import output
from vc_core.errors import StorageError

_Function = TypeVar("_Function", bound=Callable[..., Any])

#: Milliseconds. Shorter spans are in the file only.
_SHOWN = 1.0

#: Columns of the texts beside the bars.
_TEXTS = 66


@dataclass(frozen=True, slots=True)
class Span:
    """What a process did; times are milliseconds of the host's clock."""

    process: str
    name: str
    begin: float
    length: float


def options(function: _Function) -> _Function:
    """Add the two options to a command.

    Their callbacks begin the trace before the roots and the environment are read, and end it when the command ends.
    """
    timeline = click.option(
        "--timeline",
        is_flag=True,
        expose_value=False,
        callback=_draw_at_end,
        help="Draw what took how long, on standard error.",
    )
    file = click.option(
        "--trace",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        is_eager=True,  # before --timeline, which draws this trace if there is one
        expose_value=False,
        callback=_write_to,
        help="Write what took how long to a file that ui.perfetto.dev shows.",
    )
    return timeline(file(function))


def _write_to(context: click.Context, _: click.Parameter, path: Path | None) -> None:
    if path is not None:
        context.meta[trace.VARIABLE] = path


def _draw_at_end(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    path: Path | None = context.meta.get(trace.VARIABLE)
    if path is not None or wanted:
        context.with_resource(_traced(path, wanted))


@contextmanager
def _traced(path: Path | None, draws: bool) -> Iterator[None]:
    """Trace the block to a file, or to one that is removed at the end. Raises StorageError."""
    with tempfile.TemporaryDirectory(prefix="virtc-") as directory:
        file = path or Path(directory) / "trace"
        try:
            trace.create(file)
        except OSError as error:
            raise StorageError(
                f"the trace {str(file)!r} cannot be written: {error.strerror}; give another file"
            ) from error
        trace.join("virtc")
        with trace.span("the command"):
            yield
        trace.stop()
        if draws:
            try:
                spans = read(file)
            except OSError as error:
                raise StorageError(f"the trace {str(file)!r} cannot be read: {error.strerror}") from error
            for line in drawn(spans, shutil.get_terminal_size().columns):
                output.echo(line, err=True)


def read(path: Path) -> list[Span]:
    """Return the spans of a trace in their order, without those that a full disk cut off. Raises OSError."""
    events = []
    for line in path.read_bytes().splitlines()[1:]:
        with suppress(ValueError):
            events.append(json.loads(line.removesuffix(b",")))
    processes = {event["pid"]: event["args"]["name"] for event in events if event["ph"] == "M"}
    spans = [
        Span(processes.get(event["pid"], "?"), event["name"], event["ts"] / 1000, event["dur"] / 1000)
        for event in events
        if event["ph"] == "X"
    ]
    return sorted(spans, key=lambda span: (span.begin, -span.length))


def drawn(spans: list[Span], columns: int) -> list[str]:
    """Return the lines of a drawing of spans: process, name, begin and length in ms, and a bar."""
    shown = [span for span in spans if span.length >= _SHOWN]
    first = min((span.begin for span in shown), default=0.0)
    whole = max((span.begin + span.length for span in shown), default=0.0) - first
    width = max(10, columns - _TEXTS)
    lines = [f"{'process':<12} {'what':<32} {'from':>8} {'ms':>8}"]
    for span in shown:
        begin, length = (span.begin - first) / whole * width, span.length / whole * width
        bar = " " * int(begin) + "█" * max(1, round(length))
        process = span.process.partition(" ")[0]
        lines.append(f"{process:<12} {span.name[:32]:<32} {span.begin - first:8.1f} {span.length:8.1f}  {bar[:width]}")
    return lines
