"""The contract that every hypervisor keeps."""

from __future__ import annotations

import pytest

from vc_core.testing import HypervisorContract


@pytest.mark.vm
class TestContract(HypervisorContract):
    driver_name = "qemu"
