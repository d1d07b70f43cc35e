"""``virtc console``: what a pod's guest prints, and what is typed there."""

from __future__ import annotations

import sys

import click

from vc_core import client
from vc_core.cli import identifiers, output
from vc_core.cli.foreground import raw_terminal
from vc_core.client.interpreters import run_blocking


@click.command(cls=output.Command)
@identifiers.pod
@click.option("-f", "--follow", is_flag=True, help="Wait for more, until the VM ends.")
@click.option("-i", "--interactive", is_flag=True, help="Write to it what is typed here, until Ctrl-].")
def console(pod_id: str, follow: bool, interactive: bool) -> None:
    """Print what a pod's guest printed on its console since it was started.

    With -i on a terminal, that is the guest's until Ctrl-] is typed, as the guest may have a shell there. Otherwise
    control characters are printed as escapes on a terminal; elsewhere, each byte as it is.

    Example: virtc console -f POD
    """
    found = client.console.Console(pod_id, follow=follow or interactive)
    try:
        if interactive:
            with raw_terminal():
                run_blocking(found.converse(0, lambda data: output.echo(data, nl=False)))
            if sys.stdin.isatty():
                output.echo(err=True)
        else:
            while data := run_blocking(found.following()):
                output.write(data)
    finally:
        run_blocking(found.close())
