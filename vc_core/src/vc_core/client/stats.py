"""What pods use, once and again and again."""

from __future__ import annotations

import time
from collections.abc import Sequence

from vc_core.client.connect import ask
from vc_core.client.interpreters import InThread, Operation, Ready
from vc_core.config.values import check_timeout
from vc_core.errors import BusyError, ConfigError, PodNotFoundError, StateError, SupervisorLostError
from vc_core.results import PodUsage
from vc_core.states import Action, State
from vc_core.store.records import PodRecord
from vc_core.store.status import all_pods, effective_record, require
from vc_core.store.store import Store
from vc_core.supervisor.messages import StatsPod


def stats_pod(pod_id: str) -> Operation[PodUsage]:
    """Return what a running pod uses. Raises PodNotFoundError, StateError, AgentError, SupervisorError."""
    store = Store.here()
    record: PodRecord = yield InThread(lambda: effective_record(store.read(pod_id)))
    require(record, Action.STATS_POD)
    answer = yield from ask(store, record, StatsPod())
    assert answer.pod_usage is not None
    return answer.pod_usage


class Sampler:
    """Measures pods every ``interval`` seconds: those that are named, else all that run.

    The first call of :meth:`take` raises the error of a named pod that cannot be measured. Later, as always with all, a
    pod that does not run is left out.
    """

    def __init__(self, pod_ids: Sequence[str] = (), interval: float = 1.0) -> None:
        """Measure nothing yet. Raises ConfigError for an interval that is no time."""
        if interval is None:  # which check_timeout takes, as no limit
            raise ConfigError("interval is None; give a number of seconds")
        check_timeout(interval, name="interval")
        self._store, self._named, self._interval = Store.here(), list(pod_ids), interval
        self._next: float | None = None

    def take(self) -> Operation[list[PodUsage]]:
        """Return what the pods use, sorted as they are named, or by id; waits for the time of this sample first."""
        first = self._next is None
        if self._next is not None:
            yield Ready(deadline=self._next)
        pod_ids = self._named
        if not pod_ids:
            pods = yield InThread(lambda: all_pods(self._store))
            pod_ids = [one.id for one in pods if one.state is State.RUNNING]
        found = []
        for pod_id in pod_ids:
            try:
                found.append((yield from stats_pod(pod_id)))
            except (PodNotFoundError, StateError, BusyError, SupervisorLostError):
                if first and self._named:
                    raise
        self._next = time.monotonic() + self._interval
        return found
