"""``virtc repair``: where records, processes and files of pods disagree, and how that is mended."""

from __future__ import annotations

import click

import vc_core
from vc_core.cli import options, output


@click.command(cls=output.Command)
@click.option("--apply", is_flag=True, help="Mend what disagrees.  [default: only list it]")
@options.json_option
def repair(apply: bool, as_json: bool) -> int:
    """List where the records, processes and files of pods disagree, and mend that with --apply.

    Other commands mend what concerns their own pod, so this is for a look at all of them, after a crash of the host for
    example. What another command is at work on is left out. Exits with 1 when something disagrees that was not mended.

    Example: virtc repair --apply
    """
    found = vc_core.repair(apply=apply)
    if as_json:
        output.print_json(found)
    elif found:
        rows = [(one.pod, one.found, "yes" if one.mended else one.problem or one.remedy) for one in found]
        output.print_table(("POD", "FOUND", "MENDED" if apply else "TO MEND IT"), rows)
    else:
        output.echo("Records, processes and files of all pods agree.")
    return 0 if all(one.mended for one in found) else 1
