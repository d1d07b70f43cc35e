"""The contract that every driver of its kind keeps."""

from vc_core.testing import AgentContract


class TestContract(AgentContract):
    driver_name = "noop"
