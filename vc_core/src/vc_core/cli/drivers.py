"""``virtc drivers``: lists the installed drivers, whether they can work here and keep their contract."""

from __future__ import annotations

import click

from vc_core.cli import output
from vc_core.errors import DriverNotFoundError


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--check", is_flag=True, help="Hold each driver to its contract; exit 1 when one breaks it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def drivers(names: tuple[str, ...], check: bool, as_json: bool) -> int:
    """List the installed drivers: kind, name, distribution, version, and whether they can work on this host.

    Each is looked at in a process of its own, so a broken one disturbs no other.

    Example: virtc drivers --check qemu
    """
    from vc_core.plugins.check_runner import check_installed
    from vc_core.plugins.discovery import INSTALL_DEFAULTS, how_to_install

    found = check_installed(names, contract=check)
    if missing := sorted(set(names) - {one.name for one in found}):
        raise DriverNotFoundError(f"no driver {missing[0]!r} is installed; {how_to_install(missing[0])}")
    if not any(one.kind != "extension" for one in found) and not names:
        click.echo(f"virtc: no driver is installed; {INSTALL_DEFAULTS}", err=True)
    if as_json:
        output.print_json(found)
    else:
        headers = ("KIND", "NAME", "DISTRIBUTION", "VERSION", "USABLE", "CONTRACT")
        rows = [
            (one.kind, one.name, one.distribution, one.version,
             "; ".join(one.problems) or "yes", "broken" if one.violations else "kept")
            for one in found
        ]  # fmt: skip
        shown = len(headers) if check else len(headers) - 1
        output.print_table(headers[:shown], [row[:shown] for row in rows])
        for violation in (violation for one in found for violation in one.violations if check):
            click.echo(output.printable(violation))
    return 1 if check and any(one.violations for one in found) else 0
