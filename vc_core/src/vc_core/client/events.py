"""What became of pods and containers, as operations that return the next events."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

from vc_core.client.interpreters import InThread, Operation, Ready
from vc_core.errors import ConfigError
from vc_core.results import PodEvent
from vc_core.store import files
from vc_core.store.events import EventReader
from vc_core.store.roots import private_directory
from vc_core.store.store import Store

#: Bytes of notifications of changes that one read takes.
_CHANGES = 64 * 1024


class Events:
    """The events of all pods, or of those named, for one reader: :meth:`following` returns them in parts.

    ``follow``: wait for more, without an end. ``since``: seconds since the epoch; older ones are left out.
    """

    def __init__(self, pod_ids: Sequence[str] = (), *, follow: bool = False, since: float | None = None) -> None:
        """Open what is read. Raises StorageError, ConfigError."""
        if since is not None and not isinstance(since, int | float):
            raise ConfigError(f"since is {since!r}; give seconds since the epoch, as time.time() returns them")
        roots = Store.here().roots
        self._pod_ids, self._since = frozenset(pod_ids), since or 0.0
        self._watch = files.watch(private_directory(roots.state), growth=True) if follow else -1
        self._reader = EventReader(roots)

    def following(self) -> Operation[list[PodEvent]]:
        """Return the next events, once there are any; an empty list at the end. Raises StorageError."""
        while True:
            found: list[PodEvent] = yield InThread(lambda: [one for one in self._reader.read() if self._is_wanted(one)])
            if found or self._watch < 0:
                return found
            yield Ready(read=[self._watch])
            with suppress(BlockingIOError):
                os.read(self._watch, _CHANGES)

    def _is_wanted(self, event: PodEvent) -> bool:
        return event.time >= self._since and (not self._pod_ids or event.pod_id in self._pod_ids)

    def close(self) -> Operation[None]:
        """Close what is open. Idempotent."""
        yield InThread(self._reader.close)
        if self._watch >= 0:
            os.close(self._watch)
            self._watch = -1
