"""Operations on pods that have no process: what the store takes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import vc_core as vc
from benchmarks.frame import Row, Turn, seconds, turn
from benchmarks.starts import CLICK
from benchmarks.world import VIRTC, World
from vc_core.store.roots import ROOT_VARIABLE

_CREATE = """
import sys, vc_core as vc
for n in range(int(sys.argv[1])):
    vc.create_pod(vc.PodConfig(id=f"p{n}", hypervisor_type="mock", agent_type="noop"))
"""


@contextmanager
def _list(world: World) -> Iterator[Turn]:
    environment = {**os.environ, ROOT_VARIABLE: str(world.new_folder("list"))}
    subprocess.run([sys.executable, "-c", _CREATE, "1000"], env=environment, check=True)
    yield turn(lambda: seconds([VIRTC, "pod", "list"], environment), lambda: seconds(CLICK, environment))


@contextmanager
def _create_delete(world: World) -> Iterator[Turn]:
    config = vc.PodConfig(id="p", hypervisor_type="mock", agent_type="noop")
    folder = world.new_folder("files")

    def ours() -> float:
        began = time.monotonic()
        vc.create_pod(config).delete()
        return time.monotonic() - began

    def other() -> float:
        began = time.monotonic()
        for name in ("config.json", "state.json"):
            _write(folder / name)
        for name in ("config.json", "state.json"):
            (folder / name).unlink()
        return time.monotonic() - began

    yield turn(ours, other)


def _write(path: Path) -> None:
    """Write as much as a pod's record has, so that the file is there completely or not at all."""
    temporary = path.with_suffix(".new")
    with temporary.open("xb", buffering=0) as file:
        file.write(b"{" + b" " * 500 + b"}")
        os.fsync(file.fileno())
    temporary.rename(path)


ROWS = (
    Row(
        "list", "`virtc pod list` with 1,000 pods", "`python -c \"import click\"`", _list, limit=2.5, rounds=15,
        guard=5.0,
    ),
    Row(
        "create-delete", "`create_pod` and `delete` of a pod of the hypervisor mock",
        "fsync and rename of two files, and their removal", _create_delete, limit=4, rounds=100, warm_up=5,
        guard=8.0, guard_rounds=30,
    ),
)  # fmt: skip
