"""``virtc pod create`` and ``virtc pod run``: what makes a pod from options."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

import vc_core
from vc_core import client
from vc_core.cli import early, notices, options, output, tracing
from vc_core.cli.exec_options import detach_keys_option
from vc_core.cli.foreground import foreground
from vc_core.cli.pod_options import describes_pod
from vc_core.client.interpreters import run_blocking

if TYPE_CHECKING:
    from vc_core.config.pod import PodConfig
    from vc_core.supervisor.messages import Started


@click.command(cls=options.CommandLine)
@describes_pod
@options.quiet_option
def create(config: PodConfig, quiet: bool) -> None:
    """Create a pod with one container, or the pod that a file describes; nothing is started.

    Example: virtc pod create --bundle /srv/busybox -- sleep 1000
    """
    with output.ShownProgress() as progress:
        created = vc_core.create_pod(config, progress=progress)
    _created(created.id, quiet)


@click.command(cls=options.CommandLine)
@describes_pod
@options.interactive_option
@options.terminal_option
@detach_keys_option
@click.option("--rm", "remove", is_flag=True, help="Delete the pod when the container ends (with -i).")
@options.ready_timeout_option
@tracing.options
@options.quiet_option
def run(
    config: PodConfig,
    interactive: bool,
    on_terminal: bool,
    detach_keys: str,
    remove: bool,
    timeout: float | None,
    quiet: bool,
) -> int:
    """Create a pod with one container, or one that a file describes, and start it; if that fails, it is deleted.

    With -i virtc passes input, output and signals, and exits as the container does, the first one of a file; the pod
    runs on without --rm.

    Example: virtc pod run -i --rm --bundle /srv/busybox -- uname -a
    """
    if interactive or on_terminal:
        return _foreground(config, on_terminal, detach_keys, remove, timeout, quiet)
    if remove:
        raise click.UsageError("--rm deletes the pod when the foreground ends; give -i as well")
    with output.ShownProgress() as progress:
        started = None if quiet else notices.of_pod
        operation = client.pods.run_pod(config, timeout, None, progress, None, started, early.take())
        pod_id, _ = run_blocking(operation)
    _created(pod_id, quiet)
    return 0


def _foreground(
    config: PodConfig, on_terminal: bool, detach_keys: str, remove: bool, timeout: float | None, quiet: bool
) -> int:

    created: list[str] = []
    if not config.containers:
        raise click.UsageError("-i needs a container, and the pod file has none")
    with foreground(on_terminal, detach_keys) as forwarding, output.ShownProgress() as progress:
        wanted = client.foreground.Foreground(config.containers[0].id, 0, output.stdout_fd(), 2, forwarding.caller)

        def started(event: Started) -> None:
            progress.stop()
            if not quiet:
                notices.of_pod_in_foreground(event)
            forwarding.begin()

        try:
            operation = client.pods.run_pod(config, timeout, wanted, progress, created.append, started, early.take())
            _, code = run_blocking(operation)
        finally:
            if remove and created and not forwarding.detached:
                run_blocking(client.pods.end_pod(created[0]))
    if forwarding.detached:
        notices.of_detached()
    assert code is not None
    return code


def _created(pod_id: str, quiet: bool) -> None:
    output.echo(pod_id if quiet else f"Created pod {pod_id}")
