"""The hooks that a plug-in class implements.

A plug-in is a class without required arguments, named by an entry point. Its methods carry :data:`hookimpl` and the
names and arguments below; it may take fewer arguments than specified. Hooks are synchronous, small and, except for
``vc_driver_check``, do no I/O: they return objects of the abstract base classes in ``vc_core.driver.hypervisor``,
``agent``, ``spawner`` and ``guest``.
"""

from vc_core.driver.hooks._markers import PROJECT, hookimpl, hookspec
from vc_core.driver.hooks.agent import AgentSpec
from vc_core.driver.hooks.driver import DriverSpec
from vc_core.driver.hooks.extension import ExtensionSpec
from vc_core.driver.hooks.guest import GuestSpec
from vc_core.driver.hooks.hypervisor import HypervisorSpec
from vc_core.driver.hooks.spawner import SpawnerSpec

__all__ = [
    "PROJECT",
    "AgentSpec",
    "DriverSpec",
    "ExtensionSpec",
    "GuestSpec",
    "HypervisorSpec",
    "SpawnerSpec",
    "hookimpl",
    "hookspec",
]
