"""The options ``--trace FILE`` and ``--timeline`` of a command; ``timeline`` draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from vc_core import trace
from vc_core.cli import output
from vc_core.errors import StorageError

_Function = TypeVar("_Function", bound=Callable[..., Any])


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
    import shutil  # here, because few commands are traced
    import tempfile

    from vc_core.cli import timeline

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
                spans = timeline.read(file)
            except OSError as error:
                raise StorageError(f"the trace {str(file)!r} cannot be read: {error.strerror}") from error
            for line in timeline.drawn(spans, shutil.get_terminal_size().columns):
                output.echo(line, err=True)
