"""``virtc pod pause`` and ``virtc pod resume``."""

from __future__ import annotations

import click

import vc_core
from vc_core.cli import identifiers


@click.command()
@identifiers.pod
def pause(pod_id: str) -> None:
    """Pause a running pod: all that it does stands still, also its clock.

    Example: virtc pod pause POD
    """
    vc_core.pause_pod(pod_id)


@click.command()
@identifiers.pod
def resume(pod_id: str) -> None:
    """Let a paused pod go on.

    Example: virtc pod resume POD
    """
    vc_core.resume_pod(pod_id)
