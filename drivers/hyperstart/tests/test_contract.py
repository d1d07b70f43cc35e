"""The contract that every driver of its kind keeps."""

from vc_agent_hyperstart.testing import HyperstartContract


class TestContract(HyperstartContract):
    driver_name = "hyperstart"
