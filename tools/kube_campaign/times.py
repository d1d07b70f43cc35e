"""How long a pod takes from its creation until it is ready, in VMs and with runc."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator

from kube_campaign.cluster import Cluster
from kube_campaign.pods import CLASS, container, delete, described, pod

#: Pairs of pods that are measured, after one that is not.
_ROUNDS = 5

_PATH = "/api/v1/namespaces/default/pods"


def measure(cluster: Cluster) -> Iterator[str]:
    """Yield lines with the times of pods of both kinds, which take turns, and the ratios of the pairs."""
    pairs = [(pending_to_ready(cluster, CLASS), pending_to_ready(cluster, "")) for _ in range(_ROUNDS + 1)][1:]
    for kind, times in zip(("in a VM", "with runc"), zip(*pairs, strict=True), strict=True):
        yield f"from Pending to Ready {kind}: {_shown(times)} s"
    yield f"a VM takes {_shown(tuple(ours / other for ours, other in pairs))} times as long as runc"


def pending_to_ready(cluster: Cluster, runtime: str) -> float:
    """Return the seconds from the creation of a pod of a runtime class until a client that watches it sees it ready."""
    wanted = json.dumps(pod("measured", container("one"), runtime=runtime))
    began = time.monotonic()
    # By these two, kubectl asks for nothing else of the cluster.
    cluster.kubectl("create", "--raw", _PATH, "--filename", "-", given=wanted)
    done = cluster.kubectl("wait", "--for=condition=Ready", "pod/measured", "--timeout=300s", check=False, timeout=310)
    seconds = time.monotonic() - began
    assert done.returncode == 0, described(cluster, "measured")
    delete(cluster, "measured")
    return seconds


def _shown(values: tuple[float, ...]) -> str:
    return f"{min(values):.1f} to {max(values):.1f}, median {statistics.median(values):.1f}"
