"""``virtc container``: the containers of a pod."""

from __future__ import annotations

import click

from vc_core.cli import output

#: The module of each command: to enter a container loads what that needs.
_ELSEWHERE = {
    "create": "vc_core.cli.container_create",  # its options are many
    "enter": "vc_core.cli.container_enter",
    **dict.fromkeys(("stats", "status"), "vc_core.cli.container_status"),
    **dict.fromkeys(
        ("delete", "kill", "pause", "resume", "start", "stop", "update", "wait"), "vc_core.cli.container_life"
    ),
}


@click.group(cls=output.Group, elsewhere=_ELSEWHERE)
def container() -> None:
    """Work with the containers of a pod."""
