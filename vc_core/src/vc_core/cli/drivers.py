"""``virtc drivers``: what is installed, whether it can work here, and whether it keeps its contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vc_core.cli import output

if TYPE_CHECKING:
    from vc_core.checks import Examination


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--check", is_flag=True, help="Hold each driver to its contract; exit 1 when one breaks it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def drivers(names: tuple[str, ...], check: bool, as_json: bool) -> int:
    """List the installed drivers: kind, name, distribution, version, and whether they can work on this host.

    Each is looked at in a process of its own, so a broken one disturbs no other.

    Example: virtc drivers --check qemu
    """
    from vc_core.checks import examine_installed
    from vc_core.errors import DriverNotFoundError

    found = examine_installed(names, promises=check)
    if missing := sorted(set(names) - {one.name for one in found}):
        raise DriverNotFoundError(f"no installed distribution offers a driver {missing[0]!r}; see virtc drivers")
    if as_json:
        output.print_json(found)
    else:
        headers = ("KIND", "NAME", "DISTRIBUTION", "VERSION", "USABLE", "CONTRACT")
        rows = [(one.kind, one.name, one.distribution, one.version, *_verdict(one)) for one in found]
        shown = len(headers) if check else len(headers) - 1
        output.print_table(headers[:shown], [row[:shown] for row in rows])
    return 1 if check and any(one.faults for one in found) else 0


def _verdict(one: Examination) -> tuple[str, str]:
    usable = "; ".join((*one.problems, *one.faults)) or "yes"
    return usable, "; ".join(one.faults) or "kept"
