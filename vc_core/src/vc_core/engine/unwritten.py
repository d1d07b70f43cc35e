"""Writes the last record of a pod when the disk takes it, after its supervisor has ended with the VM.

``python -m vc_core.engine.unwritten POD`` does it, in a process of its own: who stops a pod waits for the end of the
supervisor. Its standard input has two lines: the record that the disk has, and the one that it refused.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from contextlib import suppress

import msgspec

from vc_core.engine.ledger import Ledger
from vc_core.errors import BusyError, PodNotFoundError, StorageError
from vc_core.plugins.registry import Plugins
from vc_core.store import records
from vc_core.store.records import PodRecord
from vc_core.store.store import Store

#: Seconds between two attempts.
_INTERVAL = 0.5

_log = logging.getLogger(__name__)


def write_later(store: Store, on_disk: PodRecord, refused: PodRecord) -> None:
    """Start a process that writes a record as soon as the disk takes it. Blocks for milliseconds.

    Called by the supervisor of a pod whose VM has ended. If no process can be started, that is logged.
    """
    words = [sys.executable, "-P", "-m", "vc_core.engine.unwritten", refused.id]
    try:
        fd = os.memfd_create("records")
        try:
            os.write(fd, msgspec.json.encode(on_disk) + b"\n" + msgspec.json.encode(refused))
            os.lseek(fd, 0, os.SEEK_SET)
            subprocess.run(  # a child of init: nobody here waits for its end
                ["setsid", "--fork", *words],
                stdin=fd,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=True,
                cwd="/",
                env=store.roots.environment,
            )
        finally:
            os.close(fd)
    except (OSError, subprocess.CalledProcessError) as error:
        _log.error("pod %s: its end will not be recorded: %s", refused.id, error)


def main(pod_id: str) -> None:
    """Write the record of a pod, unless another process changes or deletes the pod before."""
    before, after = (records.decode_pod(line, "standard input") for line in sys.stdin.buffer)
    store, plugins = Store.here(), Plugins()
    while not _written(store, plugins, before, after):
        threading.Event().wait(_INTERVAL)  # no event says that a disk has room
    plugins.drain()


def _written(store: Store, plugins: Plugins, before: PodRecord, after: PodRecord) -> bool:
    """Write the record if the disk takes it; return whether nothing is left to do."""
    with suppress(BusyError, StorageError):
        try:
            if store.read(before.id) != before:
                return True
            with store.locked(before.id, 0):
                ledger = Ledger(store, before.id, plugins)
                if ledger.record == before:
                    ledger.commit(**msgspec.structs.asdict(after))
                return True
        except PodNotFoundError:
            return True
    return False


if __name__ == "__main__":
    main(sys.argv[1])
