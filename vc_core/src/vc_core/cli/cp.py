"""``virtc cp``: files into containers and out of them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

import vc_core
from vc_core.cli import completes, identifiers
from vc_core.errors import CopyError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_LOCAL = ("/", "./", "../")


def _begun_place(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Complete ``POD:``, and else a path of this host, which shells look for where no pod fits."""
    from click.shell_completion import CompletionItem

    pods = [] if begun.startswith(_LOCAL) or ":" in begun else identifiers.begun_targets(context, parameter, begun)
    return [*completes.files(context, parameter, begun), *(CompletionItem(f"{one}:") for one in pods)]


@click.command()
@click.option("-a", "--archive", "owners", is_flag=True, help="Keep the numbers of owners.  [default: root, or you]")
@click.option("-L", "--follow-link", "follow", is_flag=True, help="If the source is a link, copy what it leads to.")
@click.option("--timeout", type=float, metavar="SECONDS", help="End the copy after this time.")
@click.argument("source", metavar="SOURCE", shell_complete=_begun_place)
@click.argument("destination", metavar="DESTINATION", shell_complete=_begun_place)
def cp(source: str, destination: str, owners: bool, follow: bool, timeout: float | None) -> None:
    """Copy files into a running container, or out of it: one of SOURCE and DESTINATION is POD[/CTR]:PATH.

    The other is a path of this host, or - for a tar archive on the standard input or output. A directory is copied
    with all that is in it; DIR/. stands for its contents. What begins with / or . is a path of this host.

    Example: virtc cp POD:/etc/os-release .
    """
    from_guest, to_guest = _in_guest(source), _in_guest(destination)
    if from_guest is None and to_guest is not None:
        pod_id, container_id = identifiers.target(to_guest[0])
        given = sys.stdin.buffer if source == "-" else source
        vc_core.copy_in(
            pod_id, given, to_guest[1], container_id=container_id, owners=owners, follow=follow, timeout=timeout
        )
    elif from_guest is not None and to_guest is None:
        pod_id, container_id = identifiers.target(from_guest[0])
        taker = sys.stdout.buffer if destination == "-" else destination
        if destination == "-" and sys.stdout.isatty():
            raise click.UsageError(
                "a tar archive is not for a terminal; redirect the output", click.get_current_context()
            )
        try:
            vc_core.copy_out(
                pod_id, from_guest[1], taker, container_id=container_id, owners=owners, follow=follow, timeout=timeout
            )
        except CopyError as error:
            if isinstance(error.__cause__, BrokenPipeError):  # the reader of the archive has gone
                raise error.__cause__ from None
            raise
    else:
        raise click.UsageError("one of the two must be POD[/CTR]:PATH, and the other not", click.get_current_context())


def _in_guest(text: str) -> tuple[str, str] | None:
    """Return the container and the path that a text names, None for a path of this host."""
    target, colon, path = text.partition(":")
    return (target, path) if colon and not text.startswith(_LOCAL) else None
