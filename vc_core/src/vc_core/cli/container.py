"""``virtc container``: the containers of a pod."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

import vc_core
from vc_core import client
from vc_core.cli import completes, identifiers, listing, notices, options, output
from vc_core.cli.exec_options import ExecOptions, detach_keys_option, takes_exec_options
from vc_core.cli.foreground import foreground, run_command
from vc_core.cli.listing import Listing
from vc_core.client.interpreters import run_blocking

if TYPE_CHECKING:
    from vc_core.config.container import ContainerConfig
    from vc_core.results import ContainerStatus, ContainerUsage


@click.group(cls=output.Group)
def container() -> None:
    """Work with the containers of a pod."""


@container.command(cls=options.CommandLine)
@identifiers.pod_of_container
@click.option("--id", "container_id", required=True, metavar="CONTAINER", help="The new container's id.")
@click.option(
    "--rootfs",
    "--bundle",
    "bundle",
    default="",
    metavar="DIR",
    shell_complete=completes.directories,
    help="Its root, or what holds it as rootfs/.",
)
@click.option(
    "--image",
    default="",
    metavar="IMAGE",
    shell_complete=completes.images,
    help="The image that it is made of, instead of --bundle.",
)
@click.option(
    "--cmd",
    help=f"The command as one string, split as a shell does.  [default: the image's, or {options.DEFAULT_COMMAND}]",
)
@options.describes_container
@options.quiet_option
def create(
    pod_id: str, container_id: str, image: str, cmd: str | None, container: Callable[..., ContainerConfig], quiet: bool
) -> None:
    """Add a container to a pod, whether that runs or not; the container is not started.

    Example: virtc container create POD --id web --rootfs /srv/web -- httpd -f
    """
    with output.ShownProgress() as progress:
        vc_core.create_container(pod_id, container(container_id, cmd, image), progress=progress)
    output.echo(container_id if quiet else f"Created container {container_id}")


@container.command()
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


@container.command()
@identifiers.container
@click.option("--timeout", type=float, metavar="SECONDS", help="When to kill it.  [default: 10]")
@click.option("--force", is_flag=True, help="Kill it at once.")
@options.quiet_option
def stop(pod_id: str, container_id: str, timeout: float | None, force: bool, quiet: bool) -> None:
    """Stop a running container.

    Example: virtc container stop POD web
    """
    vc_core.stop_container(pod_id, container_id, timeout=timeout, force=force)
    _notify(f"Container {container_id} stopped", quiet)


@container.command()
@identifiers.container
@options.signal_option
@options.quiet_option
def kill(pod_id: str, container_id: str, signal: str, quiet: bool) -> None:
    """Send a signal to the main process of a running container.

    Example: virtc container kill --signal HUP POD web
    """
    vc_core.kill_container(pod_id, container_id, signal)
    _notify(f"Container {container_id} was sent {signal}", quiet)


@container.command()
@identifiers.container
@options.quiet_option
def pause(pod_id: str, container_id: str, quiet: bool) -> None:
    """Suspend all processes of a running container.

    Example: virtc container pause POD web
    """
    vc_core.pause_container(pod_id, container_id)
    _notify(f"Container {container_id} paused", quiet)


@container.command()
@identifiers.container
@options.quiet_option
def resume(pod_id: str, container_id: str, quiet: bool) -> None:
    """Let the processes of a paused container go on.

    Example: virtc container resume POD web
    """
    vc_core.resume_container(pod_id, container_id)
    _notify(f"Container {container_id} resumed", quiet)


@container.command()
@identifiers.container
@click.option("--memory-limit", "memory", type=int, metavar="MIB", help="Memory that it may use; 0: no limit.")
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


@container.command()
@identifiers.container
@click.option("--force", is_flag=True, help="Kill it first if it runs.")
@options.quiet_option
def delete(pod_id: str, container_id: str, force: bool, quiet: bool) -> None:
    """Delete a container that does not run.

    Example: virtc container delete POD web
    """
    vc_core.delete_container(pod_id, container_id, force=force)
    _notify(f"Container {container_id} deleted", quiet)


@container.command()
@identifiers.container
def wait(pod_id: str, container_id: str) -> None:
    """Wait until a container ended, and print its exit code.

    Example: virtc container wait POD web
    """
    output.echo(str(vc_core.wait_container(pod_id, container_id)))


@container.command()
@identifiers.container
@listing.shows("{state} {exit_code}")
def status(pod_id: str, container_id: str, listing: Listing) -> None:
    """Show a container, and where its output is logged.

    Example: virtc container status POD web
    """
    listing.show_one(vc_core.status_container(pod_id, container_id), _print_status)


def _print_status(found: ContainerStatus) -> None:
    output.print_table(("CONTAINER ID", "STATE"), [(found.id, str(found.state))])
    output.print_details(container_details(found))


#: The columns of ``container stats``: title, field of ContainerUsage, format.
_USAGE = (
    ("CPU", "cpu_seconds", "{:.3f}s"),
    ("MEMORY", "memory", "{}"),
    ("TOTAL", "memory_total", "{}"),
    ("CACHE", "memory_cache", "{}"),
    ("LIMIT", "memory_limit", "{}"),
    ("PIDS", "pids", "{}"),
    ("READ", "read", "{}"),
    ("WRITTEN", "written", "{}"),
)


@container.command()
@identifiers.container
@listing.shows("{memory}")
def stats(pod_id: str, container_id: str, listing: Listing) -> None:
    """Show what a running container uses of processors, memory and disks; sizes in bytes.

    Example: virtc container stats POD web
    """
    listing.show_one(vc_core.stats_container(pod_id, container_id), _print_usage)


def _print_usage(found: ContainerUsage) -> None:
    values = (getattr(found, name) for _, name, _ in _USAGE)
    shown = ["-" if value is None else form.format(value) for value, (_, _, form) in zip(values, _USAGE, strict=True)]
    output.print_table([title for title, _, _ in _USAGE], [shown])


@container.command(cls=options.EnterLine)
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


def container_details(one: Any) -> list[tuple[str, str, str]]:
    """Return the rows with a container's details besides its state; empty values are left out when printed."""
    name = f"container {one.id}"
    code = "" if one.exit_code is None else str(one.exit_code)
    return [
        (name, "reason", output.with_time(one.reason, one.ended_at)),
        (name, "exit code", code),
        (name, "log", one.log_path),
    ]


def _notify(text: str, quiet: bool) -> None:
    if not quiet:
        output.echo(text)
