"""The operations of the API that act on images; each written once, for both interpreters."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

from vc_core.client.coroutines import run_coroutine
from vc_core.client.interpreters import InThread, Operation
from vc_core.config.container import ContainerConfig
from vc_core.config.image import ImageReference
from vc_core.config.pod import PodConfig
from vc_core.driver.guest import Progress
from vc_core.errors import ImageNotFoundError
from vc_core.images.defaults import apply_image
from vc_core.images.pull import Fetcher
from vc_core.results import ImageStatus
from vc_core.store.images import Images
from vc_core.store.roots import Roots


def pull_image(reference: str, tls_verify: bool = True, progress: Progress | None = None) -> Operation[ImageStatus]:
    """Fetch an image from its registry. ``progress`` is called in the caller's thread.

    Raises ConfigError, ImageError, StorageError.
    """
    roots, wanted = Roots.from_environment(), ImageReference.parse(reference)
    return (yield from run_coroutine(lambda note: Fetcher(roots, note).pull(wanted, tls_verify), progress))


def import_image(source: str, name: str = "", progress: Progress | None = None) -> Operation[ImageStatus]:
    """Store an image from an archive or a layout. Raises ConfigError, ImageError, StorageError."""
    roots, wanted = Roots.from_environment(), ImageReference.parse(name) if name else None
    return (yield from run_coroutine(lambda note: Fetcher(roots, note).import_image(source, wanted), progress))


def list_images() -> Operation[list[ImageStatus]]:
    """Return all images. Raises StorageError."""
    images = Images(Roots.from_environment())
    found: list[ImageStatus] = yield InThread(images.all)
    return found


def status_image(reference: str) -> Operation[ImageStatus]:
    """Return an image. Raises ConfigError, ImageNotFoundError, ImageError, StorageError."""
    images, wanted = Images(Roots.from_environment()), ImageReference.parse(reference)
    found: ImageStatus = yield InThread(lambda: images.find(wanted))
    return found


def delete_image(reference: str) -> Operation[None]:
    """Delete a name, or an image. Raises ConfigError, ImageNotFoundError, ImageError, StateError, StorageError."""
    images, wanted = Images(Roots.from_environment()), ImageReference.parse(reference)
    yield InThread(lambda: images.remove(wanted))


def prune_images(every: bool = False, dry_run: bool = False) -> Operation[list[ImageStatus]]:
    """Delete images that no pod has, and return them. Raises StorageError."""
    images = Images(Roots.from_environment())
    found: list[ImageStatus] = yield InThread(lambda: images.prune(every, dry_run))
    return found


def with_images(
    config: PodConfig, roots: Roots, leases: ExitStack, progress: Progress | None = None
) -> Operation[PodConfig]:
    """Return the configuration of a pod with what the images of its containers say; see :func:`with_image`."""
    containers = []
    for container in config.containers:
        containers.append((yield from with_image(container, roots, leases, progress)))
    return replace(config, containers=containers)


def with_image(
    config: ContainerConfig, roots: Roots, leases: ExitStack, progress: Progress | None = None
) -> Operation[ContainerConfig]:
    """Return the configuration of a container with what its image says; one that is not on this host is pulled.

    Nobody removes the image until ``leases`` closes, when the container must be on record. Raises ConfigError,
    ImageError, StorageError.
    """
    if not config.image:
        return config
    images, reference = Images(roots), ImageReference.parse(config.image)

    def lease() -> ImageStatus:
        return leases.enter_context(images.lease(reference))

    try:
        image: ImageStatus = yield InThread(lease)
    except ImageNotFoundError:
        if not reference.name:
            raise
        pulled = yield from run_coroutine(lambda note: Fetcher(roots, note).pull(reference, True), progress)
        reference = ImageReference("", digest=pulled.digest)
        image = yield InThread(lease)
    return apply_image(config, image)
