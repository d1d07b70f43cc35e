"""The hook specifications: what a driver's plug-in class implements.

A plug-in is a class without required arguments, named by an entry point. Its methods carry :data:`hookimpl` and the
names and arguments below; it may take fewer arguments than specified. Hooks are synchronous, small and do no I/O: they
hand over objects of the abstract base classes in ``vc_core.hypervisor``, ``agent``, ``spawner`` and ``guest``.
"""

from vc_core.hookspecs._markers import PROJECT, hookimpl, hookspec
from vc_core.hookspecs.agent import AgentSpec
from vc_core.hookspecs.driver import DriverSpec
from vc_core.hookspecs.extension import ExtensionSpec
from vc_core.hookspecs.guest import GuestSpec
from vc_core.hookspecs.hypervisor import HypervisorSpec
from vc_core.hookspecs.spawner import SpawnerSpec

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
