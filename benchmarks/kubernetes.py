"""A pod of Kubernetes in a VM, against the same pod with runc, in the cluster of ``./dev kubernetes``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.frame import Row, Turn, turn
from benchmarks.world import HERE, World

# The cluster, and what of the tests of the runtime it imports, are modules without a distribution.
sys.path += [str(HERE.parent / one) for one in ("tools", "runtimes/oci/tests")]
from kube_campaign import installation
from kube_campaign.pods import CLASS
from kube_campaign.setting import new_cluster
from kube_campaign.times import pending_to_ready


@contextmanager
def _pods(world: World) -> Iterator[Turn]:
    # The cluster's processes inherit what pods start from.
    with world.templates(made=True), new_cluster(build=False) as (cluster, wheels):
        installation.give_guest(cluster)
        installation.install(cluster, wheels)
        yield turn(lambda: pending_to_ready(cluster, CLASS), lambda: pending_to_ready(cluster, ""))


ROWS = (
    Row(
        "kubernetes", "a Kubernetes pod of the runtime class from Pending to Ready, from a template",
        "the same pod with runc", _pods, limit=6, rounds=5, warm_up=3,
    ),
)  # fmt: skip
