"""The contract that every driver of its kind keeps."""

from vc_core.testing import HyperstartContract


class TestContract(HyperstartContract):
    driver_name = "hyperstart"
