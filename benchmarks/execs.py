"""Commands in a container that runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import vc_core as vc
from benchmarks.bare import BareVm
from benchmarks.frame import Row, Turn, turn
from benchmarks.world import EMULATED, World


@contextmanager
def _sleeping_pod(world: World) -> Iterator[vc.Pod]:
    sleeper = vc.ContainerConfig(id="c", root_fs=str(world.bundle), cmd=vc.Cmd(args=["sleep", "10000"]))
    with vc.run_pod(vc.PodConfig(hypervisor_config=EMULATED, containers=[sleeper])) as pod:
        yield pod


@contextmanager
def _api(world: World) -> Iterator[Turn]:
    """``enter_container`` in one process on a running pod, against a bare init over a virtio-serial port."""
    command = vc.Cmd(args=["/bin/busybox", "true"])
    with _sleeping_pod(world) as pod, BareVm(world) as vm:
        vm.wait_port()

        def ours() -> float:
            began = time.monotonic()
            assert pod.enter_container("c", command).exit_code == 0
            return time.monotonic() - began

        yield turn(ours, vm.run_true)


ROWS = (
    Row(
        "exec", "`enter_container(... true)` on a running pod", "fork and exec by a bare init over virtio-serial", _api,
        limit=1.6, rounds=200, warm_up=5,
    ),
)  # fmt: skip
