"""The costs of plug-ins: listing names, loading the first driver, calling a hook."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.frame import Row, Turn, turn
from benchmarks.world import World

#: The beginning of each program. A program has a process of its own, so that nothing is imported or cached before; it
#: prints the medians of both, that of this project first.
_PROGRAM = """
import importlib, importlib.metadata, json, statistics, sys, threading, time
from vc_core.driver import PluginKind
from vc_core.plugins.registry import Plugins

def timed(work):
    began = time.perf_counter()
    work()
    return time.perf_counter() - began

def turns(rounds, ours, other):
    both = [(timed(ours), timed(other)) for _ in range(rounds)]
    print(json.dumps([statistics.median(times) for times in zip(*both)]))
"""

_NAMES = """
turns(15, lambda: Plugins().names(PluginKind.HYPERVISOR), lambda: list(importlib.metadata.entry_points()))
"""

_LOAD = """
plugins = Plugins()
plugins.names(PluginKind.HYPERVISOR)
if len(sys.argv) > 1:
    print(json.dumps(timed(lambda: plugins.hypervisor("mock"))))
else:
    print(json.dumps(timed(lambda: importlib.import_module("vc_hypervisor_mock.plugin").MockPlugin())))
"""

_CALL = """
driver = Plugins().hypervisor("mock")
from vc_hypervisor_mock.plugin import MockPlugin
plugin = MockPlugin()
driver.options_class()

def on_a_thread():
    thread = threading.Thread(target=plugin.vc_driver_options)
    thread.start()
    thread.join()

turns(2000, driver.options_class, on_a_thread)
"""


@contextmanager
def _names(world: World) -> Iterator[Turn]:
    """With a hundred plug-ins, most of them distributions that are installed only for this."""
    path = world.new_folder("plugins")
    for number in range(100 - _count(world.folder)):
        info = path / f"bench_{number}-1.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: bench-{number}\nVersion: 1\n", encoding="utf-8")
        (info / "entry_points.txt").write_text(
            f"[vc_core.hypervisors]\nbench-{number} = bench_{number}:Plugin\n", encoding="utf-8"
        )
    assert _count(path) == 100
    yield lambda: _medians(_NAMES, path)


@contextmanager
def _load(world: World) -> Iterator[Turn]:
    yield turn(lambda: float(_run(_LOAD, world.folder, "ours")), lambda: float(_run(_LOAD, world.folder)))


@contextmanager
def _call(world: World) -> Iterator[Turn]:
    """Each call has a thread of its own, because it may hang, and the call ends after its time limit all the same."""
    yield lambda: _medians(_CALL, world.folder)


def _medians(measured: str, path: Path) -> tuple[float, float]:
    ours, other = json.loads(_run(measured, path))
    return ours, other


def _run(measured: str, path: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(path)}
    command = [sys.executable, "-c", _PROGRAM + measured, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=True).stdout


def _count(path: Path) -> int:
    """Return the number of installed plug-ins, including those in a directory."""
    return int(_run("print(len(Plugins().installed()))", path))


ROWS = (
    Row(
        "plugin-names", "names of all hypervisors, with 100 plug-ins installed", "`importlib.metadata.entry_points()`",
        _names, limit=8, rounds=3, warm_up=0,
    ),
    Row(
        "plugin-load", "first load of the driver mock, names listed before", "import its module", _load, limit=3,
        rounds=15,
    ),
    Row(
        "hook-call", "a hook call through the typed methods of a driver", "the same method called on a new thread",
        _call, limit=3, rounds=3, warm_up=0,
    ),
)  # fmt: skip
