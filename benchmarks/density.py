"""What idle pods cost: the memory of each further one, and the CPU time that they use while nothing happens in them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import vc_core as vc
from benchmarks.footprint import IDLE_MEMORY, KINDS, idle_pod, pod_cpu_seconds, pod_memory
from benchmarks.frame import Section
from benchmarks.markdown import paragraph, table
from benchmarks.world import World

PODS = 5
SECONDS = 60.0

#: Seconds after the last start in which guests finish what they do at their start.
_SETTLE = 10.0


def _density(world: World) -> Iterator[str]:
    config = idle_pod(world)
    with world.templates(), ExitStack() as running:
        vc.create_template(config)
        pods = [running.enter_context(vc.run_pod(config)).id]
        time.sleep(_SETTLE)
        first = _sums(pod_memory, pods)
        pods += [running.enter_context(vc.run_pod(config)).id for _ in range(PODS - 1)]
        time.sleep(_SETTLE)
        all_of_them = _sums(pod_memory, pods)
        before = _sums(pod_cpu_seconds, pods)
        time.sleep(SECONDS)
        after = _sums(pod_cpu_seconds, pods)
    further = {kind: (all_of_them[kind] - first[kind]) / (PODS - 1) for kind in KINDS}
    percent = {kind: (after[kind] - before[kind]) / PODS / SECONDS * 100 for kind in KINDS}
    yield paragraph(f"""
        Pods of {IDLE_MEMORY} MiB that were started from a template, each with a container that sleeps. Memory is PSS,
        in which a page that several processes share counts in parts; that of a further pod is a {PODS - 1}th of what
        {PODS - 1} more pods add. CPU time is the mean of {PODS} pods over {SECONDS:.0f} s, in percent of one core.""")
    rows = [[kind, f"{first[kind]:.1f}", f"{further[kind]:.1f}", f"{percent[kind]:.2f}"] for kind in KINDS]
    sums = [sum(figures[kind] for kind in KINDS) for figures in (first, further, percent)]
    rows.append(["all", f"{sums[0]:.1f}", f"{sums[1]:.1f}", f"{sums[2]:.2f}"])
    yield table(["process", "first pod, MiB", "further pod, MiB", "CPU, %"], rows)


def _sums(measure: Callable[[str], dict[str, float]], pods: Sequence[str]) -> dict[str, float]:
    """Return the sums over all pods of what is measured of each, by kind of process."""
    figures = [measure(pod) for pod in pods]
    return {kind: sum(one[kind] for one in figures) for kind in KINDS}


SECTIONS = (Section("density", "What an idle pod costs", _density),)
