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

#: How many pods are listed.
_MANY = 1000

#: A program that makes the first one. The others are copies of its files: to make 1,000 takes half a minute of fsync.
_CREATE = "import vc_core as vc; vc.create_pod(vc.PodConfig(id='pod-0', hypervisor_type='mock', agent_type='noop'))"


def mock_pods(root: Path, count: int) -> dict[str, str]:
    """Make a state root with so many pods of the hypervisor mock; return the environment for programs that use it."""
    environment = {**os.environ, ROOT_VARIABLE: str(root)}
    subprocess.run([sys.executable, "-c", _CREATE], env=environment, check=True)
    pods = root / "state/pods"
    for number in range(1, count):
        (pods / f"pod-{number}").mkdir(mode=0o700)
        for name in ("config.json", "state.json"):
            text = (pods / "pod-0" / name).read_text(encoding="utf-8").replace('"pod-0"', f'"pod-{number}"')
            (pods / f"pod-{number}" / name).write_text(text, encoding="utf-8")
    listed = subprocess.run([VIRTC, "pod", "list"], env=environment, stdout=subprocess.PIPE, check=True).stdout
    assert listed.count(b" ready ") == count, f"not all of {count} pods are listed as ready"
    return environment


@contextmanager
def _list(world: World) -> Iterator[Turn]:
    environment = mock_pods(world.new_folder("list"), _MANY)
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
        "list", f"`virtc pod list` with {_MANY:,} pods", "`python -c \"import click\"`", _list, limit=2.5, rounds=15,
        guard=5,
    ),
    Row(
        "create-delete", "`create_pod` and `delete` of a pod of the hypervisor mock",
        "fsync and rename of two files, and their removal", _create_delete, limit=4, rounds=100, warm_up=5,
        guard=30, guard_rounds=30,
    ),
)  # fmt: skip
