"""Commands in a container that runs, and the stop of a pod."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import vc_core as vc
from benchmarks.bare import BareVm
from benchmarks.clone import pod_config, warm
from benchmarks.frame import Row, Turn, seconds, turn
from benchmarks.starts import CLICK
from benchmarks.world import VIRTC, World

_TRUE = ("/bin/busybox", "true")
_SLEEP = ("/bin/busybox", "sleep", "10000")


@contextmanager
def _api(world: World) -> Iterator[Turn]:
    with warm(world), vc.run_pod(pod_config(world, *_SLEEP)) as pod, BareVm(world) as vm:
        vm.wait_port()

        def ours() -> float:
            began = time.monotonic()
            assert pod.enter_container("c", vc.Cmd(args=_TRUE)).exit_code == 0
            return time.monotonic() - began

        yield turn(ours, vm.run_true)


@contextmanager
def _cli(world: World) -> Iterator[Turn]:
    with warm(world), vc.run_pod(pod_config(world, *_SLEEP)) as pod, BareVm(world) as vm:
        vm.wait_port()
        command = [VIRTC, "container", "enter", pod.id, "c", "--", *_TRUE]
        yield turn(lambda: seconds(command), lambda: vm.run_true() + seconds(CLICK))


@contextmanager
def _stop(world: World) -> Iterator[Turn]:
    """Each VM is stopped once, so both sides start one before they are measured."""

    def ours() -> float:
        with vc.run_pod(pod_config(world, *_SLEEP)) as pod:
            began = time.monotonic()
            pod.stop()
            return time.monotonic() - began

    def other() -> float:
        with BareVm(world) as vm:
            vm.wait_port()
            return vm.power_off()

    with warm(world):
        yield turn(ours, other)


ROWS = (
    Row(
        "exec", "`enter_container(... true)` on a running pod", "fork and exec by a bare init over virtio-serial", _api,
        limit=1.6, rounds=200, warm_up=10, guard=3.2, guard_rounds=50,
    ),
    Row(
        "exec-cli", "`virtc container enter ... true`, the whole process",
        "fork and exec by a bare init, and `python -c \"import click\"`", _cli, limit=2, rounds=30, warm_up=3,
    ),
    Row(
        "stop", "`stop_pod` of a pod with a container that runs", "orderly power-off of a bare guest", _stop,
        limit=2, rounds=7,
    ),
)  # fmt: skip
