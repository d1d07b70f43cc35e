"""``virtc container``: the containers of a pod."""

from __future__ import annotations

import click

from vc_core.cli import options, output


@click.group()
def container() -> None:
    """Work with the containers of a pod."""


@container.command(cls=options.CommandLine)
@options.identifier("pod_id", "--pod-id", "pod")
@options.identifier("container_id", "--id", "container")
@click.option("--cmd", help=f"The command as one string, split as a shell does.  [default: {options.DEFAULT_COMMAND}]")
@options.env_option
@options.user_option
@options.workdir_option
@click.option("--timeout", type=float, metavar="SECONDS", help="Kill the command after this time.")
def enter(
    pod_id: str,
    container_id: str,
    argv: tuple[str, ...],
    cmd: str | None,
    envs: tuple[str, ...],
    user: str,
    workdir: str,
    timeout: float | None,
) -> int:
    """Run a command in a running container, with this process' input and output, and exit as it does.

    Example: virtc container enter POD CONTAINER -- ls -l /
    """
    from vc_core import container_operations
    from vc_core.cli.foreground import forwarder
    from vc_core.interpreters import run_blocking

    wanted = options.command(cmd, argv, envs, user, workdir)
    output.expect_command()
    with forwarder() as forwarded:
        forwarded.begin()
        result = run_blocking(
            container_operations.enter_container(
                pod_id, container_id, wanted, 0, 1, 2, timeout, None, forwarded.signals
            )
        )
    return result.exit_code
