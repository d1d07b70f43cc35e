"""``virtc template``: the saved VMs of which pods start as clones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

import vc_core
from vc_core.cli import listing, options, output
from vc_core.cli.listing import Listing
from vc_core.cli.pod_options import describes_pod

if TYPE_CHECKING:
    from vc_core.config.pod import PodConfig
    from vc_core.results import TemplateStatus


def _begun_kinds(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    return [one.kind for one in vc_core.list_templates() if one.kind.startswith(begun)]


@click.group(cls=output.Group)
def template() -> None:
    """Make what pods start from without a boot."""


@template.command(cls=options.CommandLine)
@describes_pod
@options.quiet_option
def create(config: PodConfig, quiet: bool) -> None:
    """Make the template of a kind of pod; give the options that its pods get.

    The first pod of a kind has it made by itself, after its start; this makes it before, or afresh.

    Example: virtc template create --memory 1024
    """
    with output.ShownProgress() as progress:
        made = vc_core.create_template(config, progress=progress)
    output.echo(made.kind if quiet else f"Created template {made.kind}")


@template.command(name="list")
@listing.lists("ids", "{kind} {size}")
def list_(listing: Listing) -> None:
    """List the templates, the one that was used last at the end.

    Example: virtc template list
    """
    listing.show(vc_core.list_templates(), lambda one: one.kind, _print_templates)


def _print_templates(found: Sequence[TemplateStatus]) -> None:
    rows = [
        (
            one.kind,
            one.hypervisor,
            one.agent,
            str(one.memory or "default"),
            str(one.vcpus or "default"),
            f"{one.size / 2**20:.1f}",
        )
        for one in found
    ]
    output.print_table(("TEMPLATE", "HYPERVISOR", "AGENT", "MEMORY", "CPUS", "MIB"), rows)


@template.command()
@click.argument("kinds", nargs=-1, metavar="[TEMPLATE...]", shell_complete=_begun_kinds)
@click.option("--all", "every", is_flag=True, help="Remove all of them.")
def remove(kinds: tuple[str, ...], every: bool) -> None:
    """Remove templates; the next pod of each kind has it made again. Running pods are not touched.

    Example: virtc template remove --all
    """
    if bool(kinds) == every:
        raise click.UsageError("name the templates to remove, or give --all")
    for kind in [one.kind for one in vc_core.list_templates()] if every else kinds:
        vc_core.delete_template(kind)
