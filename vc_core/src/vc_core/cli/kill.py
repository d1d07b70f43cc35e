"""``virtc kill``: a signal to containers."""

from __future__ import annotations

import click

import vc_core
from vc_core.cli import identifiers, options
from vc_core.cli.several import each
from vc_core.states import State


@click.command()
@options.signal_option
@click.option("-a", "--all", "every", is_flag=True, help="The containers of all pods that run.")
@identifiers.targets_argument
def kill(named: tuple[str, ...], signal: str, every: bool) -> int:
    """Send a signal to the main processes of running containers; POD stands for all containers of a pod.

    Example: virtc kill -s HUP POD/web
    """
    if every and named:
        raise click.UsageError("--all and a pod are given; give one of the two", click.get_current_context())
    if not every and not named:
        raise click.UsageError("give POD[/CTR] or --all", click.get_current_context())
    if every:
        running = [one.id for one in vc_core.list_pods() if one.state is State.RUNNING]
        return each(running, lambda pod_id: vc_core.kill_pod(pod_id, signal))

    def work(text: str) -> None:
        pod_id, container_id = identifiers.pod_or_container(text)
        if container_id:
            vc_core.kill_container(pod_id, container_id, signal)
        else:
            vc_core.kill_pod(pod_id, signal)

    return each(named, work)
