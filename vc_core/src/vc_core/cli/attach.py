"""``virtc attach``: the streams of a container that runs."""

from __future__ import annotations

import os

import click

from vc_core import client
from vc_core.cli import identifiers, notices, options, output
from vc_core.cli.exec_options import detach_keys_option
from vc_core.cli.foreground import foreground
from vc_core.client.interpreters import run_blocking


@click.command(cls=options.ExpectsCode)
@detach_keys_option
@click.option("--no-stdin", is_flag=True, help="Pass no input.")
@identifiers.target_argument
def attach(named: str, detach_keys: str, no_stdin: bool) -> int:
    """Follow the output of a running container from now on, pass input and signals, and exit as it does.

    It takes input if it was started with that (interactive, or -i and detached since). On a terminal the keys
    Ctrl-P Ctrl-Q end virtc, and not the container.

    Example: virtc attach POD
    """
    pod_id, container_id = identifiers.target(named)
    on_terminal = not no_stdin and os.isatty(0) and client.attaching.has_terminal(pod_id, container_id)
    with foreground(on_terminal, detach_keys) as forwarding:
        forwarding.begin()
        stdin = None if no_stdin else 0
        operation = client.attaching.attach_container(
            pod_id, container_id, stdin, output.stdout_fd(), 2, forwarding.caller, notices.of_foreground
        )
        code = run_blocking(operation)
    if forwarding.detached:
        notices.of_detached()
    return code
