"""``virtc wait``: until containers have ended."""

from __future__ import annotations

import click

import vc_core
from vc_core.cli import identifiers, output
from vc_core.cli.several import each


@click.command()
@identifiers.targets_argument
def wait(named: tuple[str, ...]) -> int:
    """Wait until containers ended, and print their exit codes, each in a line, in the order of the arguments.

    POD stands for all containers of a pod, in their order; the line is - for one that has no exit code.

    Example: virtc wait POD POD/web
    """
    if not named:
        raise click.UsageError("no pod is given; name it as an argument", click.get_current_context())

    def work(text: str) -> None:
        pod_id, container_id = identifiers.pod_or_container(text)
        if container_id:
            output.echo(str(vc_core.wait_container(pod_id, container_id)))
            return
        for code in vc_core.wait_pod(pod_id).values():
            output.echo("-" if code is None else str(code))

    return each(named, work)
