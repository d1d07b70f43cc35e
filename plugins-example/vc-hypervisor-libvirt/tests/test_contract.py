"""The contract of hypervisors, with VMs that libvirt's daemon starts."""

from __future__ import annotations

import pytest

from vc_core.testing import HypervisorContract


@pytest.mark.vm("libvirt")
@pytest.mark.root
@pytest.mark.usefixtures("libvirt")
class TestHypervisor(HypervisorContract):
    driver_name = "libvirt"
