"""``virtc pod``: the life of pods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

import vc_core
from vc_core.cli import identifiers, listing, output, times
from vc_core.cli.filters import Filter, takes_filter
from vc_core.cli.listing import Listing

if TYPE_CHECKING:
    from vc_core.results import PodStatus

#: The module of each command that has one of its own.
_ELSEWHERE = {
    **dict.fromkeys(("create", "run"), "vc_core.cli.pod_run"),  # their options are many
    **dict.fromkeys(("start", "stop", "delete"), "vc_core.cli.pod_ends"),
    **dict.fromkeys(("pause", "resume"), "vc_core.cli.pod_pause"),
    **dict.fromkeys(("inspect", "schema"), "vc_core.cli.pod_files"),
    "enter": "vc_core.cli.pod_enter",
}


@click.group(cls=output.Group, elsewhere=_ELSEWHERE)
def pod() -> None:
    """Create, run, stop and delete pods."""


@pod.command(name="list")
@takes_filter("label", "state")
@listing.lists("ids", "{id} {state}")
@click.option("-a", "--all", is_flag=True, expose_value=False, help="Has no effect: all are listed.")
def list_(wanted: Filter, listing: Listing) -> None:
    """List all pods, those that are stopped too.

    Example: virtc pod list --filter label=team=web --format '{id} {state}'
    """
    pods = [one for one in vc_core.list_pods() if wanted.passes(one)]
    listing.show(pods, lambda one: one.id, _print_pods)


@pod.command()
@identifiers.pod
@listing.shows("{state}")
def status(pod_id: str, listing: Listing) -> None:
    """Show a pod, its containers, and where their output is logged.

    Example: virtc pod status POD
    """
    listing.show_one(vc_core.status_pod(pod_id), _print_status)


def _print_status(found: PodStatus) -> None:
    _print_pods([found])
    output.echo()
    output.print_table(("CONTAINER ID", "STATE"), [(one.id, str(one.state)) for one in found.containers])
    details = [
        *(("pod", f"port {one.guest_port}/{one.protocol}", f"127.0.0.1:{one.host_port}") for one in found.forwards),
        ("pod", "reason", output.with_time(found.reason, found.changed_at)),
        *(("pod", "warning", warning) for warning in found.warnings),
        *(("pod", f"label {key}", value or "-") for key, value in found.labels.items()),
        ("pod", "acceleration", found.acceleration),
        ("pod", "isolation", found.isolation),
        ("pod", "jail", found.jail),
        *(("pod", "jail lacks", reason) for reason in found.jail_missing),
        ("pod", "strict", "yes, it starts in a full jail only" if found.strict else ""),
        ("pod", "template", found.template),
        ("pod", "console", found.console_path),
    ]
    from vc_core.cli.container_status import container_details  # a list of pods does without

    output.print_details(details + [detail for one in found.containers for detail in container_details(one)])


def _print_pods(pods: Sequence[PodStatus]) -> None:
    rows = [
        (one.id, str(one.state), _ready(one), _age(one), one.hypervisor, one.agent, _ports(one), one.pool)
        for one in pods
    ]
    headers = ("POD ID", "STATE", "READY", "AGE", "HYPERVISOR", "AGENT", "PORTS", "POOL")
    # Only a program makes pools, so that column is for those who have one.
    columns = len(headers) if any(one.pool for one in pods) else len(headers) - 1
    output.print_table(headers[:columns], [row[:columns] for row in rows])


def _ready(pod: PodStatus) -> str:
    """Return how many of a pod's containers run, as kubectl does."""
    return f"{sum(one.state == 'running' for one in pod.containers)}/{len(pod.containers)}"


def _age(pod: PodStatus) -> str:
    return "-" if pod.created_at is None else times.since(pod.created_at)


def _ports(pod: PodStatus) -> str:
    ports = (f"{one.host_port}->{one.guest_port}/{one.protocol}" for one in pod.forwards)
    return ",".join(ports) or "-"
