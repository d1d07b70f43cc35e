"""The contract that every driver of its kind keeps."""

from vc_core.testing import HypervisorContract


class TestContract(HypervisorContract):
    driver_name = "mock"
