"""For tests of drivers: the contract of each kind of driver, as pytest classes; built guests; a census of leaks.

Subclass the class of your driver's kind in a test module of your own, and pytest runs the contract; see
``docs/how-to/write-a-hypervisor.md``. Needs the extra ``vc-core[testing]``.
"""

import pytest

pytest.register_assert_rewrite("vc_core.testing.contract")

from vc_core.plugins.registry import Plugins  # noqa: E402
from vc_core.testing.contract import (  # noqa: E402 - their asserts are only rewritten when asked for before
    AgentContract,
    ExtensionContract,
    GuestContract,
    HypervisorContract,
    PluginContract,
    SpawnerContract,
)
from vc_core.testing.guests import built_guest  # noqa: E402

__all__ = [
    "AgentContract",
    "ExtensionContract",
    "GuestContract",
    "HypervisorContract",
    "PluginContract",
    "Plugins",
    "SpawnerContract",
    "built_guest",
]
