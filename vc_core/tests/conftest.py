"""What the core's tests share: roots of their own, and pods that need no virtual machine."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # what the test modules share is no package of its own

import vc_core as vc
from vc_core.store.roots import CACHE_VARIABLE, ROOT_VARIABLE, Roots
from vc_core.store.store import Store


@pytest.fixture(autouse=True)
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Roots:
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "root"))
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return Roots.from_environment()


@pytest.fixture
def store(roots: Roots) -> Store:
    return Store(roots)


@pytest.fixture
def mock_config() -> Callable[..., vc.PodConfig]:
    """Return a function that makes the configuration of a pod of mock and noop."""

    def make(pod_id: str = "p1", containers: int = 1, **options: object) -> vc.PodConfig:
        return vc.PodConfig(
            id=pod_id,
            hypervisor_type="mock",
            hypervisor_config=vc.HypervisorConfig(options=options),
            agent_type="noop",
            containers=[
                vc.ContainerConfig(id=f"c{number}", cmd=vc.Cmd(args=["sleep", "1"]))
                for number in range(1, containers + 1)
            ],
        )

    return make
