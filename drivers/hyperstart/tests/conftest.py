from collections.abc import Mapping
from pathlib import Path

import pytest

from vc_agent_hyperstart.agent import HyperstartAgent
from vc_agent_hyperstart.config import HyperstartConfig
from vc_core.driver import HypervisorConfig, PodContext, Resources


def make_agent(
    saved: Mapping[str, object] | None = None,
    config: HyperstartConfig | None = None,
    writable_dir: Path | None = None,
) -> HyperstartAgent:
    pod = PodContext(
        id="p1",
        uuid="00000000-0000-0000-0000-000000000000",
        run_dir=Path("/nonexistent/run"),
        share_dir=Path("/nonexistent/share"),
        resources=Resources(),
        hypervisor_config=HypervisorConfig(),
        writable_dir=writable_dir,
    )
    return HyperstartAgent(pod, config or HyperstartConfig(), saved)


@pytest.fixture(name="make_agent", scope="session")
def make_agent_fixture():
    """A function that makes an agent for a pod that has no VM."""
    return make_agent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the contract that let many peers misbehave: each waits for a timeout."""
    for item in items:
        if item.path.parent == Path(__file__).parent and "test_whatever_the_guest_does_each_call_ends" in item.name:
            item.add_marker(pytest.mark.slow)
