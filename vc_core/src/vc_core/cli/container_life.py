"""``virtc container start``, ``stop`` and what else changes a container that is there."""

from __future__ import annotations

import click

import vc_core
from vc_core import client
from vc_core.cli import identifiers, notices, options, output
from vc_core.cli.exec_options import detach_keys_option
from vc_core.cli.foreground import foreground
from vc_core.client.interpreters import run_blocking


@click.command(cls=output.Command)
@identifiers.container
@options.interactive_option
@options.terminal_option
@detach_keys_option
@options.command_timeout_option
@options.quiet_option
def start(
    pod_id: str,
    container_id: str,
    interactive: bool,
    on_terminal: bool,
    detach_keys: str,
    timeout: float | None,
    quiet: bool,
) -> int:
    """Start a container of a running pod, for the first time or again.

    With -i virtc passes input, output and signals, and exits as the container does.

    Example: virtc container start POD web
    """
    options.check_command_timeout(timeout, interactive or on_terminal)
    if not (interactive or on_terminal):
        run_blocking(client.containers.start_container(pod_id, container_id))
        _notify(f"Container {container_id} started", quiet)
        return 0
    output.expect_command()
    with foreground(on_terminal, detach_keys) as forwarding:
        forwarding.begin()
        wanted = client.foreground.Foreground(container_id, 0, output.stdout_fd(), 2, forwarding.caller, timeout)
        code = run_blocking(
            client.containers.start_container(pod_id, container_id, wanted, None if quiet else notices.of_foreground)
        )
    if forwarding.detached:
        notices.of_detached()
    assert code is not None
    return code


@click.command(cls=output.Command)
@identifiers.container
@click.option("-t", "--timeout", type=float, metavar="SECONDS", help="When to kill it.  [default: 10]")
@click.option("--force", is_flag=True, help="Kill it at once.")
@options.quiet_option
def stop(pod_id: str, container_id: str, timeout: float | None, force: bool, quiet: bool) -> None:
    """Stop a running container.

    Example: virtc container stop POD web
    """
    vc_core.stop_container(pod_id, container_id, timeout=timeout, force=force)
    _notify(f"Container {container_id} stopped", quiet)


@click.command(cls=output.Command)
@identifiers.container
@options.signal_option
@options.quiet_option
def kill(pod_id: str, container_id: str, signal: str, quiet: bool) -> None:
    """Send a signal to the main process of a running container.

    Example: virtc container kill --signal HUP POD web
    """
    vc_core.kill_container(pod_id, container_id, signal)
    _notify(f"Container {container_id} was sent {signal}", quiet)


@click.command(cls=output.Command)
@identifiers.container
@options.quiet_option
def pause(pod_id: str, container_id: str, quiet: bool) -> None:
    """Suspend all processes of a running container.

    Example: virtc container pause POD web
    """
    vc_core.pause_container(pod_id, container_id)
    _notify(f"Container {container_id} paused", quiet)


@click.command(cls=output.Command)
@identifiers.container
@options.quiet_option
def resume(pod_id: str, container_id: str, quiet: bool) -> None:
    """Let the processes of a paused container go on.

    Example: virtc container resume POD web
    """
    vc_core.resume_container(pod_id, container_id)
    _notify(f"Container {container_id} resumed", quiet)


@click.command(cls=output.Command)
@identifiers.container
@click.option("--memory-limit", "memory", type=options.size, metavar="MIB", help="Memory that it may use; 0: no limit.")
@click.option("--pids-limit", "pids", type=int, metavar="N", help="Processes that it may have; 0: no limit.")
@click.option("--cpus-limit", "cpus", type=float, metavar="N", help="Processors that it may use; 0: no limit.")
@options.quiet_option
def update(
    pod_id: str, container_id: str, memory: int | None, pids: int | None, cpus: float | None, quiet: bool
) -> None:
    """Change the limits of a container, at once if it runs, and for its next starts.

    Example: virtc container update --memory-limit 64 POD web
    """
    if memory is pids is cpus is None:
        raise click.UsageError("no limit is given; give --memory-limit, --pids-limit or --cpus-limit")
    vc_core.update_container(pod_id, container_id, memory=memory, pids=pids, cpus=cpus)
    _notify(f"Container {container_id} updated", quiet)


@click.command(cls=output.Command)
@identifiers.container
@click.option("-f", "--force", is_flag=True, help="Kill it first if it runs.")
@options.quiet_option
def delete(pod_id: str, container_id: str, force: bool, quiet: bool) -> None:
    """Delete a container that does not run.

    Example: virtc container delete POD web
    """
    vc_core.delete_container(pod_id, container_id, force=force)
    _notify(f"Container {container_id} deleted", quiet)


@click.command(cls=output.Command)
@identifiers.container
def wait(pod_id: str, container_id: str) -> None:
    """Wait until a container ended, and print its exit code.

    Example: virtc container wait POD web
    """
    output.echo(str(vc_core.wait_container(pod_id, container_id)))


def _notify(text: str, quiet: bool) -> None:
    if not quiet:
        output.echo(text)
