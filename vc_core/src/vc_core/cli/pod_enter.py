"""``virtc pod enter``: a command in a pod, outside of its containers."""

from __future__ import annotations

import click

from vc_core.cli import identifiers, options
from vc_core.cli.exec_options import ExecOptions, takes_exec_options
from vc_core.cli.foreground import run_command


@click.command(cls=options.EnterLine)
@identifiers.pod
@options.command_option
@takes_exec_options
def enter(pod_id: str, argv: tuple[str, ...], cmd: str | None, wanted: ExecOptions) -> int:
    """Run a command in a running pod, outside of its containers, and exit as it does.

    It runs in the pod's own root file system where it has one (--pod-rootfs), else in the guest's. Its input is empty
    without -i or -t.

    Example: virtc pod enter POD -- busybox ps
    """
    command = wanted.command(options.words(cmd, argv))
    return run_command(pod_id, "", command, wanted)
