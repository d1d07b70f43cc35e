"""Memory of pods that do nothing: the proportional set sizes (PSS) of all of their processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import vc_core as vc
from benchmarks import proc
from benchmarks.clone import Clone, RawTemplate, pod_config, warm
from benchmarks.frame import Row, Turn, turn
from benchmarks.world import World
from vc_core.store.roots import ROOT_VARIABLE

#: How many pods are added to the first one, and MiB of each.
_FURTHER, _MEMORY = 4, 256

_SLEEP = ("/bin/busybox", "sleep", "10000")

#: Seconds after a start after which a guest is idle.
_SETTLED = 1.0


@contextmanager
def _per_pod(world: World) -> Iterator[Turn]:
    with warm(world, _MEMORY) as template:
        yield turn(lambda: _per_further_pod(world), lambda: _per_further_clone(world, template))


def _per_further_pod(world: World) -> float:
    with ExitStack() as stack:
        config = pod_config(world, *_SLEEP, memory=_MEMORY)
        return _per_further(world, lambda: stack.enter_context(vc.run_pod(config)))


def _per_further_clone(world: World, template: RawTemplate) -> float:
    with ExitStack() as stack:
        return _per_further(world, lambda: stack.enter_context(Clone(template)).start(*_SLEEP))


def _per_further(world: World, start: Callable[[], object]) -> float:
    """Return by how many MiB all processes grow for each VM that is started beside a first one."""
    start()
    first = settled_pss(world)
    for _ in range(_FURTHER):
        start()
    return (settled_pss(world) - first) / _FURTHER


def settled_pss(world: World) -> float:
    """Return the PSS in MiB of all processes of the world's virtual machines, when their guests do nothing more."""
    time.sleep(_SETTLED)
    return sum(map(proc.memory, _processes(world)))


def _processes(world: World) -> set[int]:
    """Return the processes that were started with the world's state root, and all that these have started.

    What runs in a jail has neither their environment nor their working directory.
    """
    found = {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _uses(entry, world)}
    return found.union(*map(proc.descendants, found))


def _uses(entry: Path, world: World) -> bool:
    try:
        return f"{ROOT_VARIABLE}={world.folder}".encode() in (entry / "environ").read_bytes()
    except OSError:  # it has ended
        return False


ROWS = (
    Row(
        "memory", f"memory (PSS, all processes) of each further idle pod of {_MEMORY} MiB",
        "raw clone of the same template with a container", _per_pod, limit=25, rounds=3, warm_up=0, unit="MiB",
        difference=True,
    ),
)  # fmt: skip
