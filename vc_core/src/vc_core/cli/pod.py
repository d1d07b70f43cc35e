"""``virtc pod``: the life of pods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

import vc_core
from vc_core.cli import identifiers, listing, options, output, times
from vc_core.cli.exec_options import ExecOptions, takes_exec_options
from vc_core.cli.filters import Filter, takes_filter
from vc_core.cli.foreground import run_command
from vc_core.cli.listing import Listing

if TYPE_CHECKING:
    from vc_core.results import PodStatus

#: The module of each command that has one of its own.
_ELSEWHERE = {
    **dict.fromkeys(("create", "run"), "vc_core.cli.pod_run"),  # their options are many
    **dict.fromkeys(("start", "stop", "delete"), "vc_core.cli.pod_ends"),
    **dict.fromkeys(("pause", "resume"), "vc_core.cli.pod_pause"),
}


@click.group(cls=output.Group, elsewhere=_ELSEWHERE)
def pod() -> None:
    """Create, run, stop and delete pods."""


@pod.command(name="list")
@takes_filter("label", "state")
@listing.lists("ids", "{id} {state}")
def list_(wanted: Filter, listing: Listing) -> None:
    """List all pods.

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
    from vc_core.cli.container import container_details  # a list of pods does without

    output.print_details(details + [detail for one in found.containers for detail in container_details(one)])


@pod.command()
@identifiers.pod
@click.option("--format", "form", type=click.Choice(("yaml", "json", "toml")), help="[default: yaml]")
@options.json_option
def inspect(pod_id: str, form: str | None, as_json: bool) -> None:
    """Print a pod's configuration as a file, from which 'virtc pod create --file' makes the same pod.

    Example: virtc pod inspect POD >pod.yaml
    """
    if as_json and form not in (None, "json"):
        raise click.UsageError(f"--json and --format {form} are two formats; choose one")
    config = vc_core.inspect_pod(pod_id)
    output.echo(vc_core.dump_pod_config(config, format="json" if as_json else form or "yaml"), nl=False)


@pod.command()
def schema() -> None:
    """Print the JSON Schema of pod files, for editors and other tools.

    Example: virtc pod schema >pod.schema.json
    """
    import json

    from vc_core.podfile.schema import pod_schema

    output.echo(json.dumps(pod_schema(), indent=2))


@pod.command(cls=options.EnterLine)
@identifiers.pod
@options.command_option
@takes_exec_options
def enter(pod_id: str, argv: tuple[str, ...], cmd: str | None, wanted: ExecOptions) -> int:
    """Run a command in a running pod, outside of its containers, and exit as it does.

    It runs in the pod's own root file system where it has one (--pod-rootfs), else in the guest's. Its input is empty
    without -i or -t.

    Example: virtc pod enter POD -- busybox ps
    """
    command = wanted.command(options.words(cmd, argv))
    return run_command(pod_id, "", command, wanted)


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
