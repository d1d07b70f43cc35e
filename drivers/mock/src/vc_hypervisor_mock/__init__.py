"""The hypervisor driver ``mock``: virtual machines that are records, for tests."""

from vc_hypervisor_mock.config import MockConfig
from vc_hypervisor_mock.plugin import MockPlugin

__all__ = ["MockConfig", "MockPlugin"]
