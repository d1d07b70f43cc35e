"""The contract of extensions, and that of hypervisors for one inside the wrapper."""

from vc_core.testing import ExtensionContract, HypervisorContract


class TestExtension(ExtensionContract):
    driver_name = "journal"


class TestMockInside(HypervisorContract):
    driver_name = "mock"
