"""``virtc repair``: where records, processes and files of pods disagree, and how that is mended."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import click

import vc_core
from vc_core.cli import listing, output
from vc_core.cli.listing import Listing

if TYPE_CHECKING:
    from vc_core.results import Repair


@click.command(cls=output.Command)
@click.option("--apply", is_flag=True, help="Mend what disagrees.  [default: only list it]")
@listing.lists("ids of pods", "{pod}: {found}")
def repair(apply: bool, listing: Listing) -> int:
    """List where the records, processes and files of pods disagree, and mend that with --apply.

    Other commands mend what concerns their own pod, so this is for a look at all of them, after a crash of the host for
    example. What another command is at work on is left out. Exits with 1 when something disagrees that was not mended.

    Example: virtc repair --apply
    """
    found = vc_core.repair(apply=apply)
    listing.show(found, lambda one: one.pod, partial(_print, apply))
    return 0 if all(one.mended for one in found) else 1


def _print(apply: bool, found: Sequence[Repair]) -> None:
    if not found:
        output.echo("Records, processes and files of all pods agree.")
        return
    rows = [(one.pod, one.found, "yes" if one.mended else one.problem or one.remedy) for one in found]
    output.print_table(("POD", "FOUND", "MENDED" if apply else "TO MEND IT"), rows)
