"""``virtc pod``: the life of pods."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import click

import vc_core
from vc_core import client
from vc_core.cli import notices, options, output, tracing
from vc_core.cli.container import container_details
from vc_core.cli.foreground import foreground, run_command
from vc_core.cli.pod_options import describes_pod
from vc_core.client.interpreters import run_blocking
from vc_core.errors import PodNotFoundError, VCError

if TYPE_CHECKING:
    from vc_core.config.pod import PodConfig
    from vc_core.supervisor.messages import Started

_ready_timeout = click.option(
    "--timeout", type=float, metavar="SECONDS", help="How long the guest may take to get ready.  [default: 60]"
)


@click.group(cls=output.Group)
def pod() -> None:
    """Create, run, stop and delete pods."""


@pod.command(cls=options.CommandLine)
@describes_pod
@options.quiet_option
def create(config: PodConfig, quiet: bool) -> None:
    """Create a pod with one container, or the pod that a file describes; nothing is started.

    Example: virtc pod create --bundle /srv/busybox -- sleep 1000
    """
    _created(vc_core.create_pod(config).id, quiet)


@pod.command(cls=options.CommandLine)
@describes_pod
@options.interactive_option
@options.terminal_option
@click.option("--rm", "remove", is_flag=True, help="Delete the pod when the container ends (with -i).")
@_ready_timeout
@tracing.options
@options.quiet_option
def run(
    config: PodConfig, interactive: bool, on_terminal: bool, remove: bool, timeout: float | None, quiet: bool
) -> int:
    """Create a pod with one container, or one that a file describes, and start it; if that fails, it is deleted.

    With -i virtc passes input, output and signals, and exits as the container does, the first one of a file; the pod
    runs on without --rm.

    Example: virtc pod run -i --rm --bundle /srv/busybox -- uname -a
    """
    if interactive or on_terminal:
        return _foreground(config, on_terminal, remove, timeout, quiet)
    if remove:
        raise click.UsageError("--rm deletes the pod when the foreground ends; give -i as well")
    with output.ShownProgress() as progress:
        operation = client.pods.run_pod(config, timeout, None, progress, None, None if quiet else notices.of_pod)
        pod_id, _ = run_blocking(operation)
    _created(pod_id, quiet)
    return 0


def _foreground(config: PodConfig, on_terminal: bool, remove: bool, timeout: float | None, quiet: bool) -> int:

    created: list[str] = []
    if not config.containers:
        raise click.UsageError("-i needs a container, and the pod file has none")
    with foreground(on_terminal) as forwarding, output.ShownProgress() as progress:
        wanted = client.foreground.Foreground(
            config.containers[0].id, 0, output.stdout_fd(), 2, forwarding.signals, forwarding.terminal
        )

        def started(event: Started) -> None:
            progress.stop()
            if not quiet:
                notices.of_pod_in_foreground(event)
            forwarding.begin()

        try:
            _, code = run_blocking(client.pods.run_pod(config, timeout, wanted, progress, created.append, started))
        finally:
            if remove and created:
                _delete_if_there(created[0])
    assert code is not None
    return code


def _delete_if_there(pod_id: str) -> None:
    pod = vc_core.Pod(pod_id)
    with suppress(PodNotFoundError):  # its start failed, and took it away
        with suppress(VCError):
            pod.stop()  # so that the guest is done with the disks that it writes to
        pod.delete(force=True)


def _created(pod_id: str, quiet: bool) -> None:
    output.echo(pod_id if quiet else f"Created pod {pod_id}")


@pod.command()
@options.pod_id
@_ready_timeout
@tracing.options
@click.option("--strict", is_flag=True, help="Let it start in a full jail only, from now on.")
@options.quiet_option
def start(pod_id: str, timeout: float | None, strict: bool, quiet: bool) -> None:
    """Start a pod and its containers.

    Example: virtc pod start POD
    """
    with output.ShownProgress() as progress:
        started = None if quiet else notices.of_pod
        run_blocking(client.pods.start_pod(pod_id, timeout, None, progress, started, strict))


@pod.command()
@options.pod_id
@click.option("--timeout", type=float, metavar="SECONDS", help="When to kill it.  [default: 10]")
@click.option("--force", is_flag=True, help="Do not ask the guest.")
def stop(pod_id: str, timeout: float | None, force: bool) -> None:
    """Stop a pod: its containers end, its VM is gone.

    Example: virtc pod stop POD
    """
    vc_core.stop_pod(pod_id, timeout=timeout, force=force)


@pod.command()
@options.pod_id
@click.option("--force", is_flag=True, help="Whatever its state; what runs is killed.")
def delete(pod_id: str, force: bool) -> None:
    """Delete a pod that does not run.

    Example: virtc pod delete POD
    """
    vc_core.delete_pod(pod_id, force=force)


@pod.command(name="list")
@options.json_option
@options.quiet_option
def list_(as_json: bool, quiet: bool) -> None:
    """List all pods.

    Example: virtc pod list
    """
    pods = vc_core.list_pods()
    if as_json:
        output.print_json(pods)
    elif quiet:
        output.echo("".join(f"{one.id}\n" for one in pods), nl=False)
    else:
        _print_pods(pods)


@pod.command()
@options.pod_id
@options.json_option
def status(pod_id: str, as_json: bool) -> None:
    """Show a pod, its containers, and where their output is logged.

    Example: virtc pod status POD
    """
    found = vc_core.status_pod(pod_id)
    if as_json:
        output.print_json(found)
        return
    _print_pods([found])
    output.echo()
    output.print_table(("CONTAINER ID", "STATE"), [(one.id, str(one.state)) for one in found.containers])
    details = [
        *(("pod", f"port {one.guest_port}/{one.protocol}", f"127.0.0.1:{one.host_port}") for one in found.forwards),
        ("pod", "reason", found.reason),
        *(("pod", "warning", warning) for warning in found.warnings),
        ("pod", "acceleration", found.acceleration),
        ("pod", "isolation", found.isolation),
        ("pod", "jail", found.jail),
        *(("pod", "jail lacks", reason) for reason in found.jail_missing),
        ("pod", "strict", "yes, it starts in a full jail only" if found.strict else ""),
        ("pod", "template", found.template),
        ("pod", "console", found.console_path),
    ]
    output.print_details(details + [detail for one in found.containers for detail in container_details(one)])


@pod.command()
@options.pod_id
@click.option("--format", "form", type=click.Choice(("yaml", "json", "toml")), help="[default: yaml]")
@options.json_option
def inspect(pod_id: str, form: str | None, as_json: bool) -> None:
    """Print a pod's configuration as a file, from which 'virtc pod create --file' makes the same pod.

    Example: virtc pod inspect POD >pod.yaml
    """
    if as_json and form not in (None, "json"):
        raise click.UsageError(f"--json and --format {form} are two formats; choose one")
    config = vc_core.inspect_pod(pod_id)
    output.echo(vc_core.dump_pod_config(config, format="json" if as_json else form or "yaml"), nl=False)


@pod.command()
def schema() -> None:
    """Print the JSON Schema of pod files, for editors and other tools.

    Example: virtc pod schema >pod.schema.json
    """
    import json

    from vc_core.podfile.schema import pod_schema

    output.echo(json.dumps(pod_schema(), indent=2))


@pod.command(cls=options.EnterLine)
@options.pod_id
@options.command_option
@options.terminal_option
@options.env_option
@options.user_option
@options.workdir_option
@options.timeout_option
def enter(
    pod_id: str,
    argv: tuple[str, ...],
    cmd: str | None,
    on_terminal: bool,
    envs: tuple[str, ...],
    user: str,
    workdir: str,
    timeout: float | None,
) -> int:
    """Run a command in a running pod, outside of its containers, and exit as it does.

    It runs in the pod's own root file system where it has one (--pod-rootfs), else in the guest's.

    Example: virtc pod enter POD -- busybox ps
    """
    wanted = options.command(cmd, argv, envs, user, workdir)
    return run_command(partial(client.containers.enter_pod, pod_id), wanted, on_terminal, timeout)


def _print_pods(pods: list[Any]) -> None:
    rows = [(one.id, str(one.state), one.hypervisor, one.agent, one.pool) for one in pods]
    # Only a program makes pools, so the column is for those who have one.
    columns = 5 if any(one.pool for one in pods) else 4
    output.print_table(("POD ID", "STATE", "HYPERVISOR", "AGENT", "POOL")[:columns], [row[:columns] for row in rows])
