"""``virtc prune``: pods that are stopped."""

from __future__ import annotations

import click

import vc_core
from vc_core.cli import output
from vc_core.cli.filters import Filter, takes_filter


@click.command()
@takes_filter("label", "until")
@click.option("--dry-run", is_flag=True, help="Delete nothing, and print what would be deleted.")
def prune(wanted: Filter, dry_run: bool) -> None:
    """Delete the pods that are stopped, and print their ids. Those that were not started yet stay.

    until=TIME: only what stopped before: 24h, or 2030-01-31T12:00:00Z.

    Example: virtc prune --filter until=24h
    """
    for one in vc_core.prune_pods(labels=wanted.labels, until=wanted.until, dry_run=dry_run):
        output.echo(one.id)
