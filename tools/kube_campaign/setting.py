"""Where campaigns and benchmarks begin: a cluster apart from this host, to install vc-runtime in."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kube_campaign import binaries, installation
from kube_campaign.cluster import Cluster, cluster
from kube_campaign.node import node

#: What is kept from one cluster to the next, and the logs of the last one.
CACHE = Path(__file__).parents[2] / ".cache/kubernetes"


class NoClusterError(Exception):
    """No cluster can be started here, for a reason that is one sentence."""


@contextmanager
def new_cluster(*, build: bool) -> Iterator[tuple[Cluster, Path]]:
    """Start a cluster for the block; yield it, and the wheels that are installed there.

    ``build``: builds Kubernetes if it is not there yet. Raises NoClusterError if it is not, or another cluster runs.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NoClusterError("another cluster of ./dev kubernetes runs on this host; wait for its end") from None
        if not build and not binaries.kept(CACHE):
            raise NoClusterError("Kubernetes is not built; ./dev kubernetes does that once")
        programs = binaries.programs(CACHE)
        wheels = installation.build_wheels(CACHE)
        with node(CACHE / "node") as place, cluster(place, programs) as made:
            yield made, wheels
