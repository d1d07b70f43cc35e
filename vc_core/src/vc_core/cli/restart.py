"""``virtc restart``: pods and containers, stopped and started."""

from __future__ import annotations

import click

import vc_core
from vc_core.cli import identifiers, output
from vc_core.cli.several import each


@click.command()
@click.option("-t", "--timeout", type=float, metavar="SECONDS", help="When to kill what does not stop.  [default: 10]")
@click.option("--force", is_flag=True, help="Kill it at once.")
@identifiers.targets_argument
def restart(named: tuple[str, ...], timeout: float | None, force: bool) -> int:
    """Stop pods or containers if they run, and start them. POD stands for the pod with its VM.

    Example: virtc restart POD/web
    """
    if not named:
        raise click.UsageError("no pod is given; name it as an argument", click.get_current_context())

    def work(text: str) -> None:
        pod_id, container_id = identifiers.pod_or_container(text)
        if container_id:
            vc_core.restart_container(pod_id, container_id, timeout=timeout, force=force)
            return
        with output.ShownProgress() as progress:
            vc_core.restart_pod(pod_id, timeout=timeout, force=force, progress=progress)

    return each(named, work)
