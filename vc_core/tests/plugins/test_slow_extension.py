"""An extension whose notifications take long delays no operation: they are delivered meanwhile, in their order."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import vc_core as vc
from vc_core.driver.kinds import PluginKind
from vc_core.plugins.notifications import QUEUE
from vc_core.testing.slowness import scaled

EXTENSION = """
import threading
from vc_core.driver import hookimpl

GATE, CALLS = threading.Event(), []

class Plugin:
    @hookimpl
    def vc_pod_transition(self, pod_id, old, new):
        GATE.wait()
        CALLS.append((old, new))
"""


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return the module of an installed extension, whose notifications wait for its ``GATE``."""
    site = tmp_path / "site"
    info = site / "stranger_slow-1.dist-info"
    info.mkdir(parents=True)
    (site / "stranger_slow.py").write_text(EXTENSION, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger-slow\nVersion: 1\n", encoding="utf-8")
    group = PluginKind.EXTENSION.group
    (info / "entry_points.txt").write_text(f"[{group}]\nslow = stranger_slow:Plugin\n", encoding="utf-8")
    monkeypatch.syspath_prepend(site)
    monkeypatch.setattr("vc_core.plugins.registry.EXTENSION_TIMEOUT", scaled(60))
    module = importlib.import_module("stranger_slow")
    yield module
    module.GATE.set()
    QUEUE.drain(scaled(10))
    del sys.modules["stranger_slow"]


def test_a_pod_lives_while_an_extension_handles_its_first_notification(
    slow: Any, mock_config: Callable[..., vc.PodConfig]
) -> None:
    pod = vc.run_pod(mock_config())
    pod.stop()
    pod.delete()
    assert slow.CALLS == []
    slow.GATE.set()
    QUEUE.drain(scaled(10))
    assert slow.CALLS == [("", "ready"), ("ready", "running"), ("running", "stopped"), ("stopped", "")]


@pytest.mark.usefixtures("slow")
def test_a_fork_of_the_program_does_not_wait_for_the_notifications_of_its_parent(
    mock_config: Callable[..., vc.PodConfig],
) -> None:
    vc.create_pod(mock_config())
    if (child := os.fork()) == 0:
        QUEUE.drain(scaled(60))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    vc.delete_pod("p1")
