"""Removes pods that do not run. Called with their locks held, by clients, and by supervisors at their end."""

from __future__ import annotations

import logging
from contextlib import suppress

import msgspec

from vc_core.config.ids import pod_uuid
from vc_core.errors import StorageError, VCError, sentence
from vc_core.store.store import Store

_log = logging.getLogger(__name__)


def remove(store: Store, pod_id: str, force: bool) -> None:
    """Remove all of a pod. ``force``: also where the size limits of its mounts cannot be lifted. Raises StorageError.

    The reason is then in the status of the pod.
    """
    _lift_limits(store, pod_id, force)
    try:
        store.remove(pod_id)
    except StorageError as error:
        _note_refusal(store, pod_id, error)
        raise


def _note_refusal(store: Store, pod_id: str, error: StorageError) -> None:
    """Record why a pod was not deleted, for its status, if there is still a record that can be written."""
    with suppress(VCError):
        store.write(msgspec.structs.replace(store.read(pod_id), reason=sentence(f"it is not deleted: {error}")))


def _lift_limits(store: Store, pod_id: str, force: bool) -> None:
    """Take the size limits from the mounts of all containers. Raises StorageError; with ``force`` that is logged."""
    from vc_core.host import quota

    try:
        for container in store.read_config(pod_id).containers:
            quota.lift(container, pod_uuid(store.roots.pod_run_dir(pod_id)))
    except VCError as error:
        if not force:
            raise
        _log.warning("pod %s is deleted, but a size limit may be left: %s", pod_id, error)
