"""``virtc pod``: the life of pods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from vc_core.cli import options, output
from vc_core.cli.pod_options import CONTAINER_ID, describes_pod

if TYPE_CHECKING:
    from vc_core.config import PodConfig

_EMULATED = (
    "virtc: notice: the VM runs under emulation (tcg), because KVM does not work here: it is slow, and isolates nothing"
)


@click.group()
def pod() -> None:
    """Create, run, stop and delete pods."""


@pod.command(cls=options.CommandLine)
@describes_pod
def create(config: PodConfig) -> None:
    """Create a pod with one container; nothing is started.

    Example: virtc pod create --bundle /srv/busybox -- sleep 1000
    """
    from vc_core.sync import create_pod

    click.echo(f"Created pod {create_pod(config).id}")


@pod.command(cls=options.CommandLine)
@describes_pod
@click.option("-i", "--interactive", is_flag=True, help="Stay in the foreground with the container's input and output.")
@click.option("--rm", "remove", is_flag=True, help="Delete the pod when the container ends (with -i).")
@click.option("--timeout", type=float, metavar="SECONDS", help="How long the guest may take to get ready.")
def run(config: PodConfig, interactive: bool, remove: bool, timeout: float | None) -> int:
    """Create a pod with one container and start it; if it does not start, the pod is deleted.

    With -i virtc passes input, output and signals, and exits as the container does; the pod runs on without --rm.

    Example: virtc pod run -i --rm --bundle /srv/busybox -- uname -a
    """
    from vc_core import operations
    from vc_core.interpreters import run_blocking

    if remove and not interactive:
        raise click.UsageError("--rm deletes the pod when the foreground ends; give -i as well")
    if not interactive:
        with output.ShownProgress() as progress:
            pod_id, _ = run_blocking(operations.run_pod(config, timeout, None, progress, None, _notice))
        click.echo(f"Created pod {pod_id}")
        return 0
    output.expect_command()
    return _foreground(config, remove, timeout)


def _foreground(config: PodConfig, remove: bool, timeout: float | None) -> int:
    from vc_core import operations
    from vc_core.cli.foreground import forwarder
    from vc_core.interpreters import run_blocking
    from vc_core.operations import Foreground

    created: list[str] = []
    with forwarder() as forwarded, output.ShownProgress() as progress:
        foreground = Foreground(CONTAINER_ID, 0, 1, 2, forwarded.signals)

        def started(event: dict[str, Any]) -> None:
            progress.stop()
            forwarded.begin()

        try:
            _, code = run_blocking(operations.run_pod(config, timeout, foreground, progress, created.append, started))
        finally:
            if remove and created:
                _delete_if_there(created[0])
    assert code is not None
    return code


def _delete_if_there(pod_id: str) -> None:
    from vc_core.errors import PodNotFoundError
    from vc_core.sync import delete_pod

    try:
        delete_pod(pod_id, force=True)
    except PodNotFoundError:
        return  # its start failed, and took it away


def _notice(event: dict[str, Any]) -> None:
    if event["acceleration"] == "tcg":
        click.echo(_EMULATED, err=True)


@pod.command()
@options.pod_id
@click.option("--timeout", type=float, metavar="SECONDS", help="How long the guest may take to get ready.")
def start(pod_id: str, timeout: float | None) -> None:
    """Start a pod and its containers.

    Example: virtc pod start POD
    """
    from vc_core import operations
    from vc_core.interpreters import run_blocking

    with output.ShownProgress() as progress:
        run_blocking(operations.start_pod(pod_id, timeout, None, progress, _notice))


@pod.command()
@options.pod_id
@click.option("--timeout", type=float, metavar="SECONDS", help="When to kill it.  [default: 10]")
@click.option("--force", is_flag=True, help="Do not ask the guest.")
def stop(pod_id: str, timeout: float | None, force: bool) -> None:
    """Stop a pod: its containers end, its VM is gone.

    Example: virtc pod stop POD
    """
    from vc_core.sync import stop_pod

    stop_pod(pod_id, timeout=timeout, force=force)


@pod.command()
@options.pod_id
@click.option("--force", is_flag=True, help="Whatever its state; what runs is killed.")
def delete(pod_id: str, force: bool) -> None:
    """Delete a pod that does not run.

    Example: virtc pod delete POD
    """
    from vc_core.sync import delete_pod

    delete_pod(pod_id, force=force)


@pod.command(name="list")
@options.json_option
def list_(as_json: bool) -> None:
    """List all pods.

    Example: virtc pod list
    """
    from vc_core.sync import list_pods

    pods = list_pods()
    if as_json:
        output.print_json(pods)
    else:
        _print_pods(pods)


@pod.command()
@options.pod_id
@options.json_option
def status(pod_id: str, as_json: bool) -> None:
    """Show a pod, its containers, and where their output is logged.

    Example: virtc pod status POD
    """
    from vc_core.sync import status_pod

    found = status_pod(pod_id)
    if as_json:
        output.print_json(found)
        return
    _print_pods([found])
    click.echo()
    output.print_table(("CONTAINER ID", "STATE"), [(one.id, str(one.state)) for one in found.containers])
    details = [
        ("pod", "reason", found.reason),
        ("pod", "acceleration", found.acceleration),
        ("pod", "isolation", found.isolation),
        ("pod", "console", found.console_path),
    ]
    for one in found.containers:
        details += [
            (f"container {one.id}", "reason", one.reason),
            (f"container {one.id}", "exit code", "" if one.exit_code is None else str(one.exit_code)),
            (f"container {one.id}", "log", one.log_path),
        ]
    shown = [detail for detail in details if detail[2]]
    if shown:
        click.echo()
        output.print_table(("OF", "DETAIL", "VALUE"), shown)


def _print_pods(pods: list[Any]) -> None:
    rows = [(one.id, str(one.state), one.hypervisor, one.agent) for one in pods]
    output.print_table(("POD ID", "STATE", "HYPERVISOR", "AGENT"), rows)
