"""``virtc container enter``: a further command in a container."""

from __future__ import annotations

import click

from vc_core.cli import identifiers, options
from vc_core.cli.exec_options import ExecOptions, takes_exec_options
from vc_core.cli.foreground import run_command


@click.command(cls=options.EnterLine)
@identifiers.container
@options.command_option
@takes_exec_options
def enter(pod_id: str, container_id: str, argv: tuple[str, ...], cmd: str | None, wanted: ExecOptions) -> int:
    """Run a command in a running container, and exit as it does; virtc exec is the same with docker's habits.

    It has the variables, user and directory of the container. Its input is empty without -i or -t.

    Example: virtc container enter POD CTR -- ls -l /
    """
    command = wanted.command(options.words(cmd, argv))
    return run_command(pod_id, container_id, command, wanted)
