"""``virtc exec``: a further command in a container, with the options and habits of docker."""

from __future__ import annotations

from typing import Any

import click

from vc_core.cli import identifiers, options
from vc_core.cli.exec_options import ExecOptions, takes_exec_options
from vc_core.cli.foreground import run_command


class ExecLine(options.ExpectsCode):
    """A command line that ends where the command in the guest begins, with or without ``--`` before it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "context_settings": {"allow_interspersed_args": False}})


@click.command(name="exec", cls=ExecLine)
@takes_exec_options
@identifiers.target_argument
@click.argument("argv", nargs=-1, required=True, type=click.UNPROCESSED, metavar="CMD [ARG]...")
def exec(named: str, argv: tuple[str, ...], wanted: ExecOptions) -> int:
    """Run a command in a running container, and exit as it does.

    It has the variables, user and directory of the container. Its input is empty without -i or -t.

    Example: virtc exec -it POD sh
    """
    words = list(argv[1:] if argv[0] == "--" else argv)
    command = wanted.command(options.nonempty(words))
    pod_id, container_id = identifiers.target(named)
    return run_command(pod_id, container_id, command, wanted)
