"""Agents for pods that have no VM."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

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
