"""``virtc drivers``: what is installed, and whether it can work here."""

from __future__ import annotations

import click

from vc_core.cli import output


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def drivers(as_json: bool) -> None:
    """List the installed drivers: kind, name, distribution, version, and whether they can work on this host.

    Example: virtc drivers
    """
    from vc_core.plugins import Plugins

    found = Plugins().installed()
    if as_json:
        output.print_json(found)
        return
    rows = [(str(one.kind), one.name, one.distribution, one.version, "; ".join(one.problems) or "yes") for one in found]
    output.print_table(("KIND", "NAME", "DISTRIBUTION", "VERSION", "USABLE"), rows)
