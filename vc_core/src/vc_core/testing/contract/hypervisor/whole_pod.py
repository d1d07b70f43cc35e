"""A pod of the hypervisor, run through the public API."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import pytest

import vc_core
from vc_core.config.pod import HypervisorConfig, PodConfig
from vc_core.driver.context import Boot
from vc_core.driver.hypervisor import HypervisorCapability
from vc_core.host.processes import find_supervisors
from vc_core.store.roots import ROOT_VARIABLE, Roots
from vc_core.supervisor.wire import LOG_NAME
from vc_core.testing.contract.hypervisor.base import STOP, HypervisorFixtures, Make


class WholePod(HypervisorFixtures):
    """A pod of the hypervisor, run through the public API."""

    @pytest.fixture
    def pod_config(self, boot: Boot, hypervisor_config: HypervisorConfig) -> PodConfig:
        """The pod that the test runs through the API; by default of the agent ``noop`` and without containers."""
        given = replace(hypervisor_config, kernel_path=str(boot.kernel), image_path=str(boot.image))
        return PodConfig(id="contract", hypervisor_type=self.driver_name, agent_type="noop", hypervisor_config=given)

    def test_a_pod_survives_the_death_of_its_supervisor(
        self,
        make: Make,
        able: Callable[[HypervisorCapability], None],
        pod_config: PodConfig,
        tmp_path_factory: pytest.TempPathFactory,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        able(HypervisorCapability.PROCESS)
        if not self.driver_name or os.geteuid() != 0:
            pytest.skip("needs root and an installed driver")
        monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path_factory.mktemp("root")))
        roots = Roots.from_environment()
        log, lock = roots.pod_run_dir(pod_config.id) / LOG_NAME, roots.pod_lock(pod_config.id)
        pod = vc_core.run_pod(pod_config)
        try:
            before = pod.status()
            supervisors = find_supervisors(pod.id, log, lock)
            assert supervisors, "the pod has no supervisor"
            for supervisor in supervisors:
                assert supervisor.kill(STOP)
            status = pod.status()
            assert (status.state, status.reason) == (before.state, before.reason)
            assert [one.state for one in status.containers] == [one.state for one in before.containers]
            pod.stop()
            assert pod.status().state == "stopped"
        finally:
            pod.delete(force=True)
