"""The contracts of hypervisors and of guest drivers, with a kernel that really runs."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from vc_core.driver import GuestPayload, GuestRequest
from vc_core.testing import GuestContract, HypervisorContract


@pytest.mark.vm("uml")
@pytest.mark.root
class TestHypervisor(HypervisorContract):
    driver_name = "uml"


@pytest.mark.vm("uml")  # it needs the package that has the kernel
class TestGuest(GuestContract):
    driver_name = "uml"

    @pytest.fixture
    def wanted(self, tmp_path: Path) -> GuestRequest:
        payload = GuestPayload(files={"/init": "/bin/busybox"}, modules=["overlay"], packages=["busybox-static"])
        return GuestRequest("contract", payload, platform.machine(), tmp_path / "cache")
