"""``virtc container create``: a container is added to a pod."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

import vc_core
from vc_core.cli import completes, container_options, identifiers, options, output

if TYPE_CHECKING:
    from vc_core.config.container import ContainerConfig


@click.command(cls=options.CommandLine)
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
@container_options.describes_container
@options.quiet_option
def create(
    pod_id: str, container_id: str, image: str, cmd: str | None, container: Callable[..., ContainerConfig], quiet: bool
) -> None:
    """Add a container to a pod, whether that runs or not; the container is not started.

    Example: virtc container create POD --id web --rootfs /srv/web -- httpd -f
    """
    with output.ShownProgress() as progress:
        vc_core.create_container(pod_id, container(container_id, cmd, image), progress=progress)
    text = container_id if quiet else f"Created container {container_id}"
    output.echo_made(text, f"container {container_id}", lambda: vc_core.delete_container(pod_id, container_id))
