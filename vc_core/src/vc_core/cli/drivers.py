"""``virtc drivers``: lists the installed drivers, whether they can work here and keep their contract."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import click

from vc_core.cli import completes, listing, output
from vc_core.cli.listing import Listing
from vc_core.driver.kinds import PluginKind
from vc_core.errors import DriverNotFoundError
from vc_core.text import printable

if TYPE_CHECKING:
    from vc_core.driver.options import Option
    from vc_core.plugins.check_runner import CheckReport


@click.command(cls=output.Command)
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=completes.driver(""))
@click.option("--check", is_flag=True, help="Hold each driver to its contract; exit 1 when one breaks it.")
@listing.lists("names", "{kind} {name}")
def drivers(names: tuple[str, ...], check: bool, listing: Listing) -> int:
    """List the installed drivers: kind, name, distribution, version, and whether they can work on this host.

    With names, only those, and their options. Each is looked at in a process of its own, so a broken one disturbs no
    other.

    Example: virtc drivers qemu
    """
    from vc_core.plugins.check_runner import check_installed
    from vc_core.plugins.discovery import INSTALL_DEFAULTS, advice
    from vc_core.plugins.registry import Plugins

    found = check_installed(names, contract=check)
    if missing := sorted(set(names) - {one.name for one in found}):
        installed = {one.name for one in Plugins().installed()}
        raise DriverNotFoundError(f"no driver {missing[0]!r} is installed; {advice(missing[0], installed)}")
    if not any(one.kind != "extension" for one in found) and not names:
        output.echo(f"virtc: no driver is installed; {INSTALL_DEFAULTS}", err=True)
    listing.show(found, lambda one: one.name, partial(_print, check, bool(names)))
    return 1 if check and any(one.violations for one in found) else 0


def _print(check: bool, are_named: bool, found: Sequence[CheckReport]) -> None:
    headers = ("KIND", "NAME", "DISTRIBUTION", "VERSION", "USABLE", "CONTRACT")
    rows = [
        (one.kind, one.name, one.distribution, one.version,
         "; ".join(one.problems) or "yes", "broken" if one.violations else "kept")
        for one in found
    ]  # fmt: skip
    shown = len(headers) if check else len(headers) - 1
    output.print_table(headers[:shown], [row[:shown] for row in rows])
    for violation in (violation for one in found for violation in one.violations if check):
        output.echo(printable(violation))
    for one in found if are_named and not check else ():
        _print_options(one)


def _print_options(driver: CheckReport) -> None:
    """Print the options of a driver as a page of help does: name, description, type and default."""
    from vc_core.cli.driver_options import FLAGS

    kind = PluginKind(driver.kind)
    if driver.options:
        page = click.HelpFormatter(max_width=110)
        page.write(f"\nOptions of {kind.noun} {driver.name} ({FLAGS[kind]}):\n")
        page.indent()
        page.write_dl([(one.name, printable(_description(one))) for one in driver.options])
        output.echo(page.getvalue(), nl=False)
    elif kind in FLAGS and not driver.problems:
        output.echo(f"\n{kind.noun} {driver.name} has no options")


def _description(option: Option) -> str:
    default = "required" if option.required else f"default: {option.default_text}"
    return f"{option.description}  [{option.type}; {default}]"
