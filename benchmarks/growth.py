"""How starts, lists, creations and memory grow with the number of pods."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import vc_core as vc
from benchmarks.footprint import IDLE_MEMORY, idle_pod, pod_memory
from benchmarks.frame import Plot, Section, seconds
from benchmarks.markdown import paragraph, table
from benchmarks.plots import Line, lines
from benchmarks.proc import available_memory
from benchmarks.store import mock_pods
from benchmarks.world import VIRTC, World
from vc_core.store.roots import ROOT_VARIABLE

RUNNING = (1, 2, 5, 10, 20, 50, 100)
CREATED = (1, 10, 100, 1000, 10_000)

#: A pod that has no process.
_MOCK = vc.PodConfig(hypervisor_type="mock", agent_type="noop")

#: MiB that the host keeps free: a run of the benchmarks must not make it swap or kill.
_SPARE = 2048

#: How often lists and creations are measured at one size.
_ROUNDS = 5


def _running(world: World) -> Iterator[str | Plot]:
    """Start pods of one kind until there are 100; at each size, list them and read what they use."""
    config = idle_pod(world)
    starts, lists, memory = [], [], []
    with world.templates(), _own_root(world), ExitStack() as running:
        vc.create_template(config)
        pods: list[vc.Pod] = []
        for size in RUNNING:
            latest = []
            while len(pods) < size and available_memory() > _SPARE:
                began = time.monotonic()
                pods.append(running.enter_context(vc.run_pod(config)))
                latest.append(time.monotonic() - began)
            if len(pods) < size:
                break
            starts.append(statistics.median(latest))
            lists.append(_list_seconds())
            memory.append(sum(sum(pod_memory(pod.id).values()) for pod in pods))
    sizes = RUNNING[: len(starts)]
    yield paragraph(f"""
        Pods of {IDLE_MEMORY} MiB, started one after the other from one template, each with a container that sleeps. A
        start is `run_pod` in one Python process, the median of those since the size before. A list is the median of
        {_ROUNDS}. Memory is the PSS of all processes of all pods.""")
    rows = [
        [str(size), f"{start * 1e3:.0f}", f"{listed * 1e3:.0f}", f"{used:.0f}", f"{used / size:.1f}"]
        for size, start, listed, used in zip(sizes, starts, lists, memory, strict=True)
    ]
    yield table(["running pods", "start, ms", "`virtc pod list`, ms", "memory, MiB", "memory per pod, MiB"], rows)
    if len(sizes) < len(RUNNING):
        yield f"The host has no memory for {RUNNING[len(sizes)]} pods: {_SPARE} MiB of it are kept free."
    yield lines(
        "running-time", "Running pods: time of the next start and of a list", "running pods", "seconds",
        [Line("run_pod, from a template", sizes, starts), Line("virtc pod list", sizes, lists)],
    )  # fmt: skip
    each = [used / size for size, used in zip(sizes, memory, strict=True)]
    yield lines(
        "running-memory", "Running pods: memory of all their processes", "running pods", "MiB (PSS)",
        [Line("all pods", sizes, memory), Line("per pod", sizes, each)],
    )  # fmt: skip


def _created(world: World) -> Iterator[str | Plot]:
    """List pods of the hypervisor mock, up to 10,000 of them, and create another one."""
    creates, commands, calls = [], [], []
    for size in CREATED:
        with _own_root(world) as root:
            mock_pods(root, size)
            commands.append(_list_seconds())
            calls.append(_median(vc.list_pods))
            creates.append(_median(partial(vc.create_pod, _MOCK)))
    yield paragraph(f"""
        Pods of the hypervisor `mock`, which have no process. Figures are medians of {_ROUNDS}. All pods but those
        whose creation is measured are copies of the files of one.""")
    rows = [
        [f"{size:,}", f"{create * 1e3:.1f}", f"{command * 1e3:.0f}", f"{call * 1e3:.1f}"]
        for size, create, command, call in zip(CREATED, creates, commands, calls, strict=True)
    ]
    yield table(["pods", "`create_pod`, ms", "`virtc pod list`, ms", "`list_pods`, ms"], rows)
    yield lines(
        "created-time", "Created pods: time of the next creation and of a list", "pods", "seconds",
        [
            Line("create_pod", CREATED, creates),
            Line("virtc pod list", CREATED, commands),
            Line("list_pods", CREATED, calls),
        ],
    )  # fmt: skip


@contextmanager
def _own_root(world: World) -> Iterator[Path]:
    """Let this process, and those that it starts, use a state root in which there are no pods; yield it."""
    before = os.environ[ROOT_VARIABLE]
    root = world.new_folder("growth")
    os.environ[ROOT_VARIABLE] = str(root)
    try:
        yield root
    finally:
        os.environ[ROOT_VARIABLE] = before


def _list_seconds() -> float:
    return statistics.median(seconds([VIRTC, "pod", "list"]) for _ in range(_ROUNDS))


def _median(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes, the median of some calls."""
    times = []
    for _ in range(_ROUNDS):
        began = time.monotonic()
        call()
        times.append(time.monotonic() - began)
    return statistics.median(times)


SECTIONS = (
    Section("growth", "How running pods grow", _running),
    Section("growth-created", "How created pods grow", _created),
)
