"""The contract that every driver of its kind keeps."""

from vc_core.testing import SpawnerContract


class TestContract(SpawnerContract):
    driver_name = "nsenter"
