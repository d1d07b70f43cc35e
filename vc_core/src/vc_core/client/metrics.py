"""All pods as metrics, in the text format of Prometheus (exposition format 0.0.4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import field

from vc_core.client.interpreters import InThread, Operation
from vc_core.client.stats import stats_pod
from vc_core.errors import VCError
from vc_core.frozen import frozen
from vc_core.results import ContainerUsage, PodStatus, PodUsage, VMUsage
from vc_core.states import State
from vc_core.store.status import all_pods
from vc_core.store.store import Store
from vc_core.text import printable

#: What each name begins with.
_PREFIX = "virtcontainers"

#: Names (without beginnings), fields of usage, types and meanings.
_OF_BOTH = (
    ("cpu_seconds_total", "cpu_seconds", "counter", "Processor time used"),
    ("read_bytes_total", "read", "counter", "Bytes read from disks"),
    ("written_bytes_total", "written", "counter", "Bytes written to disks"),
    ("threads", "pids", "gauge", "Threads that exist"),
)
_OF_VMS = (
    *_OF_BOTH,
    ("memory_bytes", "memory", "gauge", "Memory, of what is shared a part (PSS)"),
)
_OF_CONTAINERS = (
    *_OF_BOTH,
    ("memory_working_set_bytes", "memory", "gauge", "Memory without file pages that were not used lately"),
    ("memory_usage_bytes", "memory_total", "gauge", "Memory with all file pages"),
    ("memory_cache_bytes", "memory_cache", "gauge", "Pages of files"),
    ("memory_limit_bytes", "memory_limit", "gauge", "Memory that it may use, if there is a limit"),
    ("oom_kills_total", "oom_kills", "counter", "Processes killed because memory was used up"),
)

Labels = dict[str, str]


@frozen
class _Family:
    """The samples of one name."""

    name: str
    kind: str
    meaning: str
    samples: list[tuple[Labels, float]] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        name = f"{_PREFIX}_{self.name}"
        if self.samples:
            yield f"# HELP {name} {self.meaning}."
            yield f"# TYPE {name} {self.kind}"
        for labels, value in self.samples:
            inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
            yield f"{name}{{{inner}}} {value!r}"


def metrics() -> Operation[str]:
    """Return the metrics of all pods. A pod that cannot be measured now has those of its state only.

    Raises StorageError.
    """
    store = Store.here()
    pods: list[PodStatus] = yield InThread(lambda: all_pods(store))
    usages: list[PodUsage] = []
    for pod in pods:
        if pod.state is State.RUNNING:
            try:
                usages.append((yield from stats_pod(pod.id)))
            except VCError:
                continue
    families = [*_of_states(pods), *_of_usage(usages)]
    return "".join(f"{line}\n" for family in families for line in family.lines())


def _of_states(pods: Iterable[PodStatus]) -> Iterator[_Family]:
    every = list(pods)
    counts = [({"state": str(state)}, float(sum(pod.state is state for pod in every))) for state in State]
    yield _Family("pods", "gauge", "Pods in a state", counts)
    yield _Family(
        "pod_info",
        "gauge",
        "A pod, with its drivers; always 1",
        [({"pod": pod.id, "hypervisor": pod.hypervisor, "agent": pod.agent}, 1.0) for pod in every],
    )
    yield _Family(
        "pod_created_timestamp_seconds",
        "gauge",
        "When the pod was created",
        [({"pod": pod.id}, pod.created_at) for pod in every if pod.created_at is not None],
    )
    of_containers = [({"pod": pod.id, "container": one.id}, one) for pod in every for one in pod.containers]
    yield _Family(
        "container_running",
        "gauge",
        "Whether the container runs",
        [(labels, float(one.state is State.RUNNING)) for labels, one in of_containers],
    )
    yield _Family(
        "container_started_timestamp_seconds",
        "gauge",
        "When the container was started last",
        [(labels, one.started_at) for labels, one in of_containers if one.started_at is not None],
    )
    yield _Family(
        "container_exit_code",
        "gauge",
        "How the container ended, if it did",
        [(labels, float(one.exit_code)) for labels, one in of_containers if one.exit_code is not None],
    )


def _of_usage(usages: Iterable[PodUsage]) -> Iterator[_Family]:
    vms: list[tuple[Labels, VMUsage | ContainerUsage]] = []
    containers: list[tuple[Labels, VMUsage | ContainerUsage]] = []
    for pod in usages:
        if pod.vm is not None:
            vms.append(({"pod": pod.pod_id}, pod.vm))
        containers += [({"pod": pod.pod_id, "container": name}, one) for name, one in pod.containers.items()]
    for of, rows, measured in (("vm", _OF_VMS, vms), ("container", _OF_CONTAINERS, containers)):
        for name, attribute, kind, meaning in rows:
            values = [(labels, getattr(one, attribute)) for labels, one in measured]
            samples = [(labels, float(value)) for labels, value in values if value is not None]
            yield _Family(f"{of}_{name}", kind, meaning, samples)


def _escaped(text: str) -> str:
    return printable(text).replace("\\", "\\\\").replace('"', '\\"')
