"""``virtc image``: the images of which containers are made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

import vc_core
from vc_core.cli import completes, listing, options, output
from vc_core.cli.listing import Listing

if TYPE_CHECKING:
    from vc_core.results import ImageStatus

#: Digits of a digest that a table shows: as many as name an image.
_SHORT = len("sha256:") + 12


@click.group(cls=output.Group)
def image() -> None:
    """Fetch the images of which containers are made."""


@image.command()
@options.image_argument
@click.option(
    "--tls-verify",
    type=bool,
    default=True,
    metavar="true|false",
    help="false: take a registry without TLS, or with a certificate that nobody vouches for.",
)
@options.json_option
@options.quiet_option
def pull(reference: str, tls_verify: bool, as_json: bool, quiet: bool) -> None:
    """Fetch an image from its registry, unless this host has what the name stands for now; print its digest.

    IMAGE is [REGISTRY/]NAME[:TAG], or NAME@sha256:DIGEST for one content only. skopeo login stores credentials.

    Example: virtc image pull debian:12
    """
    with output.ShownProgress() as progress:
        found = vc_core.pull_image(reference, tls_verify=tls_verify, progress=progress)
    _print(found, as_json, quiet)


@image.command(name="import")
@click.argument("source", metavar="SOURCE", shell_complete=completes.files)
@click.argument("name", required=False, default="", metavar="[IMAGE]", shell_complete=completes.images)
@options.json_option
@options.quiet_option
def import_(source: str, name: str, as_json: bool, quiet: bool) -> None:
    """Store an image of this host under the name IMAGE, or without a name, and print its digest.

    SOURCE is an archive of docker save, an OCI archive or the directory of an OCI layout. If it holds several images:
    docker-archive:FILE:NAME, oci-archive:FILE:TAG or oci:DIR:TAG.

    Example: virtc image import app.tar app:1.0
    """
    with output.ShownProgress() as progress:
        found = vc_core.import_image(source, name=name, progress=progress)
    _print(found, as_json, quiet)


@image.command(name="list")
@listing.lists("digests", "{digest} {size}")
def list_(listing: Listing) -> None:
    """List the images on this host, and how many pods have a container of each.

    Example: virtc image list
    """
    listing.show(vc_core.list_images(), lambda one: one.digest, _print_images)


def _print_images(found: Sequence[ImageStatus]) -> None:
    rows = [
        (name, one.digest[:_SHORT], f"{one.size / 2**20:.1f}", str(len(one.pods)))
        for one in found
        for name in one.references or ("-",)
    ]
    output.print_table(("IMAGE", "DIGEST", "MIB", "PODS"), rows)


@image.command()
@options.image_argument
def inspect(reference: str) -> None:
    """Show all about an image as JSON: its names, its pods, and what it says of its containers.

    Example: virtc image inspect debian:12
    """
    output.print_json(vc_core.status_image(reference))


@image.command()
@options.image_arguments
@click.option("--all", "every", is_flag=True, help="Remove all of them.")
def remove(references: tuple[str, ...], every: bool) -> None:
    """Remove names, and images with their last name; or, by its digest, an image with all names. Not if a pod has it.

    Example: virtc image remove debian:12
    """
    if bool(references) == every:
        raise click.UsageError("name the images to remove, or give --all")
    for reference in [one.digest for one in vc_core.list_images()] if every else references:
        vc_core.delete_image(reference)


@image.command()
@click.option("-a", "--all", "every", is_flag=True, help="Remove those with a name as well.")
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
@options.json_option
def prune(every: bool, dry_run: bool, as_json: bool) -> None:
    """Remove the images that have no name and that no pod has, and what was left of pulls that were killed.

    A pull of a name that stands for something else now takes it from the former image.

    Example: virtc image prune --all --dry-run
    """
    found = vc_core.prune_images(every=every, dry_run=dry_run)
    if as_json:
        output.print_json(found)
        return
    for one in found:
        output.echo(f"{'Would remove' if dry_run else 'Removed'} {_called(one)}")


def _called(image: ImageStatus) -> str:
    return f"{', '.join(image.references)} ({image.digest})" if image.references else image.digest


def _print(found: ImageStatus, as_json: bool, quiet: bool) -> None:
    if as_json:
        output.print_json(found)
    else:
        output.echo(found.digest if quiet else f"Stored image {_called(found)}")
