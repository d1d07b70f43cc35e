"""``virtc container status`` and ``virtc container stats``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

import vc_core
from vc_core.cli import identifiers, listing, output
from vc_core.cli.listing import Listing

if TYPE_CHECKING:
    from vc_core.results import ContainerStatus, ContainerUsage


@click.command(cls=output.Command)
@identifiers.container
@listing.shows("{state} {exit_code}")
def status(pod_id: str, container_id: str, listing: Listing) -> None:
    """Show a container, and where its output is logged.

    Example: virtc container status POD web
    """
    listing.show_one(vc_core.status_container(pod_id, container_id), _print_status)


def _print_status(found: ContainerStatus) -> None:
    output.print_table(("CONTAINER ID", "STATE"), [(found.id, str(found.state))])
    output.print_details(container_details(found))


#: The columns of ``container stats``: title, field of ContainerUsage, format.
_USAGE = (
    ("CPU", "cpu_seconds", "{:.3f}s"),
    ("MEMORY", "memory", "{}"),
    ("TOTAL", "memory_total", "{}"),
    ("CACHE", "memory_cache", "{}"),
    ("LIMIT", "memory_limit", "{}"),
    ("PIDS", "pids", "{}"),
    ("READ", "read", "{}"),
    ("WRITTEN", "written", "{}"),
)


@click.command(cls=output.Command)
@identifiers.container
@listing.shows("{memory}")
def stats(pod_id: str, container_id: str, listing: Listing) -> None:
    """Show what a running container uses of processors, memory and disks; sizes in bytes.

    Example: virtc container stats POD web
    """
    listing.show_one(vc_core.stats_container(pod_id, container_id), _print_usage)


def _print_usage(found: ContainerUsage) -> None:
    values = (getattr(found, name) for _, name, _ in _USAGE)
    shown = ["-" if value is None else form.format(value) for value, (_, _, form) in zip(values, _USAGE, strict=True)]
    output.print_table([title for title, _, _ in _USAGE], [shown])


def container_details(one: Any) -> list[tuple[str, str, str]]:
    """Return the rows with a container's details besides its state; empty values are left out when printed."""
    name = f"container {one.id}"
    code = "" if one.exit_code is None else str(one.exit_code)
    return [
        (name, "reason", output.with_time(one.reason, one.ended_at)),
        (name, "exit code", code),
        (name, "log", one.log_path),
    ]
