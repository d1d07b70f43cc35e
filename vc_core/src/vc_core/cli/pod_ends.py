"""``virtc pod start``, ``stop`` and ``delete``: of one pod, several, or all."""

from __future__ import annotations

import click

import vc_core
from vc_core import client
from vc_core.cli import identifiers, notices, options, output, tracing
from vc_core.cli.several import chosen, each
from vc_core.client.interpreters import run_blocking
from vc_core.states import STOPPABLE_STATES, STOPPED_STATES, State


@click.command()
@identifiers.several_pods
@options.ready_timeout_option
@tracing.options
@click.option("--strict", is_flag=True, help="Let it start in a full jail only, from now on.")
@options.quiet_option
def start(pod_ids: tuple[str, ...] | None, start_timeout: float | None, strict: bool, quiet: bool) -> int:
    """Start pods and their containers. --all starts those that do not run.

    Example: virtc pod start POD
    """

    def work(pod_id: str) -> None:
        with output.ShownProgress() as progress:
            started = None if quiet else notices.of_pod
            run_blocking(client.pods.start_pod(pod_id, start_timeout, None, progress, started, strict))

    return each(chosen(pod_ids, STOPPED_STATES), work)


@click.command()
@identifiers.several_pods
@click.option("-t", "--timeout", type=float, metavar="SECONDS", help="When to kill it.  [default: 10; 4 with --force]")
@click.option("--force", is_flag=True, help="Do not ask the guest.")
def stop(pod_ids: tuple[str, ...] | None, timeout: float | None, force: bool) -> int:
    """Stop pods: their containers end, their VMs are gone. --all stops those that run.

    Example: virtc pod stop POD
    """
    return each(
        chosen(pod_ids, STOPPABLE_STATES), lambda pod_id: vc_core.stop_pod(pod_id, timeout=timeout, force=force)
    )


@click.command()
@identifiers.several_pods
@click.option("-f", "--force", is_flag=True, help="Whatever its state; what runs is killed.")
def delete(pod_ids: tuple[str, ...] | None, force: bool) -> int:
    """Delete pods that do not run. --all deletes all that do not run, with --force those that run as well.

    Example: virtc pod delete POD
    """
    states = frozenset(State) if force else STOPPED_STATES
    return each(chosen(pod_ids, states), lambda pod_id: vc_core.delete_pod(pod_id, force=force))
