"""``virtc events``: what became of pods and containers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from vc_core import client
from vc_core.cli import identifiers, listing, output, times
from vc_core.cli.listing import Listing
from vc_core.client.interpreters import run_blocking
from vc_core.text import printable

if TYPE_CHECKING:
    from vc_core.results import PodEvent


@click.command(cls=output.Command)
@identifiers.pods
@click.option("-f", "--follow", is_flag=True, help="Wait for more; without --since only for new ones.")
@times.since_option
@listing.takes(
    click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each event."),
    listing.format_option("{kind} {pod_id}"),
)
def events(pod_ids: tuple[str, ...], follow: bool, since: float | None, listing: Listing) -> None:
    """Print what became of pods and containers, of all or of the pods that are named, also of deleted ones.

    Example: virtc events -f --since 10m
    """
    since = time.time() if follow and since is None else since
    found = client.events.Events(pod_ids, follow=follow, since=since)
    try:
        while some := run_blocking(found.following()):
            for event in some:
                listing.show_step([event], _print, event)
    finally:
        run_blocking(found.close())


def _print(events: Sequence[PodEvent]) -> None:
    for event in events:
        output.echo(printable(_line(event)))


def _line(event: PodEvent) -> str:
    name = f"container {event.pod_id}/{event.container_id}" if event.container_id else f"pod {event.pod_id}"
    code = "" if event.exit_code is None else f" with exit code {event.exit_code}"
    reason = f": {event.reason}" if event.reason else ""
    return f"{times.stamp(event.time)} {name} {event.kind}{code}{reason}"
