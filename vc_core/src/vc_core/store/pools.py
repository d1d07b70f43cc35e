"""Marks the pods that a pool keeps waiting: a file names the pool and the process that owns it.

It is in the pod's state directory: the run directory goes when a start is undone, and with the boot of the host.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import msgspec

from vc_core.decoding import decode_json
from vc_core.driver.process import ProcessIdentity
from vc_core.errors import StorageError
from vc_core.store import files
from vc_core.store.roots import Roots
from vc_core.store.store import Store

_NAME = "pool"


class PoolMark(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``pool``: its name. ``owner``: the identity of the process that keeps it."""

    pool: str
    owner: dict[str, object]

    def is_owned(self) -> bool:
        """Return whether the process that keeps the pool is alive."""
        try:
            return ProcessIdentity.from_mapping(self.owner).alive()
        except (KeyError, ValueError):
            return False


def mark(store: Store, pod_id: str, wanted: PoolMark) -> None:
    """Mark a pod that was created and not yet started as one of a pool. Raises BusyError, StorageError."""
    with store.locked(pod_id):
        files.write_atomic(store.roots.pod_state_dir(pod_id), _NAME, msgspec.json.encode(wanted))


def unmark(roots: Roots, pod_id: str) -> None:
    """Make a pod of a pool one like any other. Called by the pool that hands it over; needs no lock."""
    with suppress(OSError):
        _path(roots, pod_id).unlink(missing_ok=True)


def find_mark(roots: Roots, pod_id: str) -> PoolMark | None:
    """Return the mark of a pod that waits in a pool, None for any other pod."""
    try:
        return decode_json(files.read_whole(_path(roots, pod_id)), PoolMark)
    except (FileNotFoundError, StorageError, msgspec.MsgspecError):
        return None


def _path(roots: Roots, pod_id: str) -> Path:
    return roots.pod_state_dir(pod_id) / _NAME
