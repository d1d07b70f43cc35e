"""``virtc template``: the saved VMs of which pods start as clones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

import vc_core
from vc_core.cli import options, output
from vc_core.cli.pod_options import describes_pod

if TYPE_CHECKING:
    from vc_core.config.pod import PodConfig


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
@options.json_option
@options.quiet_option
def list_(as_json: bool, quiet: bool) -> None:
    """List the templates, the one that was used last at the end.

    Example: virtc template list
    """
    found = vc_core.list_templates()
    if as_json:
        output.print_json(found)
    elif quiet:
        output.echo("".join(f"{one.kind}\n" for one in found), nl=False)
    else:
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
@click.argument("kinds", nargs=-1, metavar="[TEMPLATE...]")
@click.option("--all", "every", is_flag=True, help="Remove all of them.")
def remove(kinds: tuple[str, ...], every: bool) -> None:
    """Remove templates; the next pod of each kind has it made again. Running pods are not touched.

    Example: virtc template remove --all
    """
    if bool(kinds) == every:
        raise click.UsageError("name the templates to remove, or give --all")
    for kind in [one.kind for one in vc_core.list_templates()] if every else kinds:
        vc_core.delete_template(kind)
