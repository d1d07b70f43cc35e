"""``virtc stats``: what pods and their containers use."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import click

from vc_core import client
from vc_core.cli import identifiers, listing, output
from vc_core.cli.listing import Listing
from vc_core.client.interpreters import run_blocking

if TYPE_CHECKING:
    from vc_core.results import ContainerUsage, PodUsage, VMUsage

    Samples = dict[str, PodUsage]

_HEADERS = ("POD[/CONTAINER]", "CPU %", "MEMORY", "LIMIT", "CACHE", "PIDS", "READ", "WRITTEN")

#: Goes to the upper left corner of a terminal and clears what is below.
_CLEAR = "\x1b[H\x1b[J"


@click.command(cls=output.Command)
@identifiers.pods
@click.option("--no-stream", is_flag=True, help="Measure for one interval, and end.")
@click.option("--interval", type=float, default=1.0, show_default=True, metavar="SECONDS", help="Time between two.")
@listing.takes(
    click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each measurement."),
    listing.format_option("{pod_id} {vm[memory]}"),
)
def stats(pod_ids: tuple[str, ...], no_stream: bool, interval: float, listing: Listing) -> None:
    """Show what pods use, all that run or those that are named, until this is interrupted.

    The line of a pod is what its VM and supervisor use of this host; that of a container, what it uses in the guest.
    MEMORY is the working set; CACHE are all pages of files, of which the kernel takes back those that are not used.

    Example: virtc stats --no-stream POD
    """
    sampler = client.stats.Sampler(pod_ids, interval)
    before: Samples | None = None
    while True:
        found = run_blocking(sampler.take())
        now = {one.pod_id: one for one in found}
        if before is not None or not no_stream:
            listing.show_step(found, partial(_show, before or {}), found)
        if before is not None and no_stream:
            return
        before = now


def _show(before: Samples, found: Sequence[PodUsage]) -> None:
    if before and os.isatty(output.stdout_fd()):
        output.echo(_CLEAR, nl=False)
    output.print_table(_HEADERS, list(_rows(before, {one.pod_id: one for one in found})))


def _rows(before: Samples, now: Samples) -> Iterator[list[str]]:
    for pod_id, pod in now.items():
        former = before.get(pod_id)
        seconds = pod.time - former.time if former is not None else 0.0
        if pod.vm is not None:
            yield _row(pod_id, pod.vm, former.vm if former is not None else None, seconds)
        for name, one in pod.containers.items():
            yield _row(f"{pod_id}/{name}", one, former.containers.get(name) if former is not None else None, seconds)


def _row(
    name: str, now: ContainerUsage | VMUsage, before: ContainerUsage | VMUsage | None, seconds: float
) -> list[str]:
    load = "-"
    if before is not None and seconds > 0 and now.cpu_seconds is not None and before.cpu_seconds is not None:
        load = f"{max(0.0, now.cpu_seconds - before.cpu_seconds) / seconds:.1%}"
    sizes = (now.memory, getattr(now, "memory_limit", None), getattr(now, "memory_cache", None))
    pids = "-" if now.pids is None else str(now.pids)
    return [name, load, *map(size, sizes), pids, size(now.read), size(now.written)]


def size(number: int | None) -> str:
    """Return a number of bytes in a unit in which it is short; "-" for None."""
    if number is None:
        return "-"
    amount, units = float(number), iter(("B", "KiB", "MiB", "GiB", "TiB"))
    unit = next(units)
    while amount >= 1024 and unit != "TiB":
        amount, unit = amount / 1024, next(units)
    return f"{amount:.0f}{unit}" if unit == "B" or amount >= 100 else f"{amount:.1f}{unit}"
