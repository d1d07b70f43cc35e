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
from vc_core.cli.removal import Removal
from vc_core.client.interpreters import run_blocking
from vc_core.config.ids import new_id

if TYPE_CHECKING:
    from vc_core.client.starting import Starting
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
@click.option("--rm", "remove", is_flag=True, help="Delete the pod when its first container ends.")
@options.command_timeout_option
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
    start_timeout: float | None,
    quiet: bool,
) -> int:
    """Create a pod with one container, or one that a file describes, and start it; if that fails, it is deleted.

    With -i virtc passes input, output and signals, and exits as the container does, the first one of a file; the pod
    runs on without --rm.

    Example: virtc pod run -i --rm --bundle /srv/busybox -- uname -a
    """
    options.check_command_timeout(timeout, interactive or on_terminal)
    if interactive or on_terminal:
        return _foreground(config, on_terminal, detach_keys, remove, timeout, start_timeout, quiet)
    _created(_background(config, remove, start_timeout, quiet), quiet)
    return 0


def _background(config: PodConfig, remove: bool, start_timeout: float | None, quiet: bool) -> str:
    supervisor, removal = early.take(), None
    if remove:
        config = _with_id(config, supervisor, "--rm")
        removal = Removal(config.id, config.containers[0].id)
    try:
        with output.ShownProgress() as progress:
            created = None if removal is None else lambda _: removal.created()
            started = None if quiet else notices.of_pod
            operation = client.pods.run_pod(config, start_timeout, None, progress, created, started, supervisor)
            pod_id, _ = run_blocking(operation)
    except BaseException:
        if removal is not None:
            removal.done()
        raise
    if removal is not None:
        removal.leave()
    return pod_id


def _with_id(config: PodConfig, supervisor: Starting | None, option: str) -> PodConfig:
    """Return the configuration of a pod that is named before it is made. Raises click.UsageError for no container."""
    if not config.containers:
        raise click.UsageError(f"{option} needs a container, and the pod file has none")
    return config if config.id else config.with_id(supervisor.pod_id if supervisor else new_id())


def _foreground(
    config: PodConfig,
    on_terminal: bool,
    detach_keys: str,
    remove: bool,
    timeout: float | None,
    start_timeout: float | None,
    quiet: bool,
) -> int:
    supervisor = early.take()
    config = _with_id(config, supervisor, "-i")
    container_id = config.containers[0].id
    removal = Removal(config.id, container_id) if remove else None
    created: list[str] = []

    def note_created(pod_id: str) -> None:
        created.append(pod_id)
        if removal is not None:
            removal.created()

    with foreground(on_terminal, detach_keys) as forwarding, output.ShownProgress() as progress:
        streams = (0, output.stdout_fd(), 2)
        wanted = client.foreground.Foreground(container_id, *streams, forwarding.caller, timeout)

        def started(event: Started) -> None:
            progress.stop()
            if not quiet:
                notices.of_pod_in_foreground(event)
            forwarding.begin()

        try:
            operation = client.pods.run_pod(config, start_timeout, wanted, progress, note_created, started, supervisor)
            _, code = run_blocking(operation)
        finally:
            if removal is not None and forwarding.detached:
                removal.leave()
            elif removal is not None:
                if created:
                    run_blocking(client.pods.end_pod(created[0]))
                removal.done()
    if forwarding.detached:
        notices.of_detached()
    elif not remove and not quiet:
        notices.of_left_pod(config.id)
    assert code is not None
    return code


def _created(pod_id: str, quiet: bool) -> None:
    text = pod_id if quiet else f"Created pod {pod_id}"
    output.echo_made(text, f"pod {pod_id}", lambda: vc_core.delete_pod(pod_id, force=True))
