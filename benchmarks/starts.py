"""Starts of pods, to the first byte that a container prints."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import vc_core as vc
from benchmarks.bare import BareVm
from benchmarks.clone import Clone, RawTemplate, pod_config, warm
from benchmarks.frame import Row, Turn, seconds, turn
from benchmarks.world import EMULATED, QEMU_OPTION, VIRTC, World
from vc_core import aio

#: What a program with a command line as rich as that of virtc takes at least.
CLICK = [sys.executable, "-c", "import click"]

#: What both print. Commands end at once, so a pod that ran one is stopped with nothing in it.
_PRINT = ("/bin/busybox", "echo", "x")

#: How many are started at once.
_MANY = 20


def virtc_run(world: World, *options: str) -> list[str]:
    """Return the command line of a pod with one container, without the container's command."""
    return [VIRTC, "pod", "run", "-i", "--rm", "--bundle", str(world.bundle), *QEMU_OPTION, *options, "--"]


def first_byte(world: World, *options: str) -> float:
    """Return the seconds from the start of ``virtc pod run -i`` to the container's first byte."""
    began = time.monotonic()
    command = [*virtc_run(world, *options), *_PRINT]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"x"
        return time.monotonic() - began


def _first_output(config: vc.PodConfig) -> float:
    """Return the seconds from ``run_pod`` to the first byte of the container's log."""
    began = time.monotonic()
    with vc.run_pod(config) as pod:
        _wait_for_output(pod.id)
        return time.monotonic() - began


def _wait_for_output(pod_id: str) -> None:
    log = Path(vc.status_container(pod_id, "c").log_path)
    while not log.stat().st_size:
        time.sleep(0.0005)


def _raw_output(template: RawTemplate) -> float:
    with Clone(template) as clone:
        return clone.print(*_PRINT)


def _bare_boot(world: World) -> float:
    with BareVm(world) as vm:
        return vm.seconds_to_init


@contextmanager
def _warm(world: World) -> Iterator[Turn]:
    with warm(world) as template:
        yield turn(lambda: _first_output(pod_config(world, *_PRINT)), lambda: _raw_output(template))


@contextmanager
def _warm_cli(world: World) -> Iterator[Turn]:
    command = [*virtc_run(world), "/bin/busybox", "true"]
    with warm(world) as template:
        yield turn(lambda: seconds(command), lambda: _raw_output(template) + seconds(CLICK))


@contextmanager
def _cold(world: World) -> Iterator[Turn]:
    yield turn(lambda: _first_output(pod_config(world, *_PRINT)), lambda: _bare_boot(world))


@contextmanager
def _cold_cli(world: World) -> Iterator[Turn]:
    yield turn(lambda: first_byte(world), lambda: _bare_boot(world))


@contextmanager
def _many(world: World) -> Iterator[Turn]:
    """To the first byte of the last of all."""
    with warm(world) as template:
        yield turn(lambda: _many_pods(world), lambda: _many_clones(template))


def _many_pods(world: World) -> float:
    async def run() -> list[aio.Pod | BaseException]:
        configs = [pod_config(world, *_PRINT) for _ in range(_MANY)]
        return await asyncio.gather(*map(aio.run_pod, configs), return_exceptions=True)

    with ExitStack() as stack:
        began = time.monotonic()
        pods = asyncio.run(run())
        for pod in pods:
            if isinstance(pod, aio.Pod):
                stack.callback(vc.delete_pod, pod.id, force=True)
        for pod in pods:
            if isinstance(pod, BaseException):
                raise pod
            _wait_for_output(pod.id)
        return time.monotonic() - began


def _many_clones(template: RawTemplate) -> float:
    began = time.monotonic()
    clones = [Clone(template) for _ in range(_MANY)]
    try:
        with ThreadPoolExecutor(_MANY) as pool:
            list(pool.map(lambda clone: clone.print(*_PRINT), clones))
        return time.monotonic() - began
    finally:
        for clone in clones:
            clone.close()


@contextmanager
def _uml(world: World) -> Iterator[Turn]:
    """``run_pod`` of a pod without containers on two hypervisors; it returns when the guest's agent is ready."""

    def timed(config: vc.PodConfig) -> float:
        began = time.monotonic()
        with vc.run_pod(config):
            return time.monotonic() - began

    uml, qemu = vc.PodConfig(hypervisor_type="uml"), vc.PodConfig(hypervisor_config=EMULATED)
    timed(uml)  # builds the guest if it does not exist yet
    yield turn(lambda: timed(uml), lambda: timed(qemu))


_RAW = "raw clone of the same template, its agent made to start a container and print by frames written by hand"

ROWS = (
    Row(
        "warm", "`run_pod` from a template, and the container's first output, in one process", _RAW, _warm,
        limit=1.8, rounds=15, warm_up=2, guard=3.6, guard_rounds=5,
    ),
    Row(
        "warm-cli", "`virtc pod run -i --rm ... true` from a template, the whole process",
        "the same raw clone, and `python -c \"import click\"`", _warm_cli,
        limit=2, rounds=15, warm_up=2, guard=4, guard_rounds=5,
    ),
    Row(
        "cold", "`run_pod` without templates, and the container's first output, in one process",
        "bare QEMU with the same kernel to its init's first line", _cold, limit=1.4, rounds=7,
    ),
    Row(
        "cold-cli", "`virtc pod run -i` without templates, to the first byte of the container's output",
        "bare QEMU with the same kernel to its init's first line", _cold_cli, limit=1.6, rounds=5,
    ),
    Row(
        "many", f"{_MANY} pods from a template at once, to the first output of all", f"{_MANY} raw clones at once",
        _many, limit=1.8, rounds=3, warm_up=0,
    ),
    Row("uml", "`run_pod` on the hypervisor uml", "`run_pod` on the hypervisor qemu", _uml, limit=1, rounds=5),
)  # fmt: skip
