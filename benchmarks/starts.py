"""Starts of pods, to the first byte that a container prints."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import vc_core as vc
from benchmarks.bare import BareVm
from benchmarks.frame import Row, Turn, turn
from benchmarks.world import EMULATED, QEMU_OPTION, VIRTC, World


def first_byte(world: World, *options: str) -> float:
    """Return the seconds from the start of ``virtc pod run -i`` to the container's first byte."""
    began = time.monotonic()
    command = [VIRTC, "pod", "run", "-i", "--rm", "--bundle", str(world.bundle), *QEMU_OPTION, *options]
    with subprocess.Popen([*command, "--", "echo", "x"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"x"
        return time.monotonic() - began


def _bare_boot(world: World) -> float:
    with BareVm(world) as vm:
        return vm.seconds_to_init


@contextmanager
def _cold_cli(world: World) -> Iterator[Turn]:
    yield turn(lambda: first_byte(world), lambda: _bare_boot(world))


@contextmanager
def _uml(world: World) -> Iterator[Turn]:
    """``run_pod`` of a pod without containers on two hypervisors; it returns when the guest's agent is ready."""

    def seconds(config: vc.PodConfig) -> float:
        began = time.monotonic()
        with vc.run_pod(config):
            return time.monotonic() - began

    uml, qemu = vc.PodConfig(hypervisor_type="uml"), vc.PodConfig(hypervisor_config=EMULATED)
    seconds(uml)  # builds the guest if it does not exist yet
    yield turn(lambda: seconds(uml), lambda: seconds(qemu))


ROWS = (
    Row(
        "cold-cli", "`virtc pod run -i` to the first byte of the container's output",
        "bare QEMU with the same kernel to its init's first line", _cold_cli, limit=1.6, rounds=5,
    ),
    Row("uml", "`run_pod` on the hypervisor uml", "`run_pod` on the hypervisor qemu", _uml, limit=1, rounds=5),
)  # fmt: skip
