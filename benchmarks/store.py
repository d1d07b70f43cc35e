"""Operations on pods that have no process: what the store takes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.frame import Row, Turn, seconds, turn
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
    yield turn(
        lambda: seconds([VIRTC, "pod", "list"], environment),
        lambda: seconds([sys.executable, "-c", "import click"]),
    )


ROWS = (
    Row("list", "`virtc pod list` with 1,000 pods", "`python -c \"import click\"`", _list, limit=2.5, rounds=15),
)  # fmt: skip
