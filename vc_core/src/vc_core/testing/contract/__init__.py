"""The contract of drivers, as pytest classes: one for each kind, and what they share."""

from vc_core.testing.contract.agent import AgentContract
from vc_core.testing.contract.guest import GuestContract
from vc_core.testing.contract.hypervisor import HypervisorContract
from vc_core.testing.contract.plugin import ExtensionContract, PluginContract
from vc_core.testing.contract.spawner import SpawnerContract

__all__ = [
    "AgentContract",
    "ExtensionContract",
    "GuestContract",
    "HypervisorContract",
    "PluginContract",
    "SpawnerContract",
]
