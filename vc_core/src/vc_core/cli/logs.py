"""``virtc logs``: what containers wrote."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from vc_core import client
from vc_core.cli import identifiers, output, times
from vc_core.client.interpreters import run_blocking

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vc_core.results import LogLine


class _Lines(click.IntRange):
    """A number of lines, or docker's word for no limit."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, None for "all"; called by click."""
        return None if value == "all" else super().convert(value, param, ctx)


@click.command(cls=output.Command)
@identifiers.target_argument
@click.option("-f", "--follow", is_flag=True, help="Wait for more, until the container ends.")
@times.since_option
@click.option("-n", "--tail", type=_Lines(min=0), metavar="N|all", help="The last N lines only.")
@click.option("-t", "--timestamps", is_flag=True, help="Begin each line with the time at which it arrived.")
@click.option("--stdout", "only", flag_value="stdout", help="Only what it wrote to its standard output.")
@click.option("--stderr", "only", flag_value="stderr", help="Only what it wrote to its standard error.")
def logs(named: str, follow: bool, since: float | None, tail: int | None, timestamps: bool, only: str | None) -> None:
    """Print what a container wrote, its standard error on standard error.

    On a terminal, control characters are printed as escapes; elsewhere, each byte as it is.

    Example: virtc logs -f --tail 10 POD/web
    """
    pod_id, container_id = identifiers.target(named)
    streams = {name: only in (None, name) for name in ("stdout", "stderr")}
    found = client.logs.ContainerLogs(pod_id, container_id, follow=follow, since=since, tail=tail, **streams)
    try:
        while lines := run_blocking(found.following()):
            _print(lines, timestamps)
    finally:
        run_blocking(found.close())


def _print(lines: Iterable[LogLine], timestamps: bool) -> None:
    for stream, those in groupby(lines, key=lambda line: line.stream):
        err = stream == "stderr"
        shown = (f"{times.stamp(line.time)} ".encode() + line.data if timestamps else line.data for line in those)
        output.write(b"".join(shown), err=err)
