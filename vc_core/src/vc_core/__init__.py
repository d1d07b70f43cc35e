"""Containers that run inside a virtual machine per pod: the blocking API.

``vc_core.aio`` has the same functions as coroutines. What is imported here is loaded on first use, so that a program
that only lists pods stays fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from vc_core.config.container import Cmd, ContainerConfig, EnvVar, Mount
    from vc_core.config.limits import RLimit
    from vc_core.config.network import NetworkConfig, NetworkMode, PortForward
    from vc_core.config.pod import HypervisorConfig, Param, PodConfig, Resources, Socket, Volume
    from vc_core.errors import (
        AgentError,
        BusyError,
        CommandError,
        CommandTimeoutError,
        ConfigError,
        ContainerExistsError,
        ContainerNotFoundError,
        DriverError,
        GuestError,
        HypervisorError,
        NotSupportedError,
        PodExistsError,
        PodNotFoundError,
        PrivilegeError,
        StateError,
        StorageError,
        SupervisorError,
        SupervisorLostError,
        VCError,
        VMStartError,
    )
    from vc_core.results import ContainerStatus, ContainerUsage, ExecResult, PodStatus
    from vc_core.states import State
    from vc_core.sync import (
        Container,
        Pod,
        create_container,
        create_pod,
        delete_container,
        delete_pod,
        enter_container,
        enter_pod,
        kill_container,
        list_pods,
        run_pod,
        start_container,
        start_pod,
        stats_container,
        status_container,
        status_pod,
        stop_container,
        stop_pod,
        wait_container,
    )

#: Where the names of this package come from.
_MODULES = ("errors", "results", "states", "sync", "config.pod", "config.container", "config.limits", "config.network")

__all__ = [
    "AgentError",
    "BusyError",
    "Cmd",
    "CommandError",
    "CommandTimeoutError",
    "ConfigError",
    "Container",
    "ContainerConfig",
    "ContainerExistsError",
    "ContainerNotFoundError",
    "ContainerStatus",
    "ContainerUsage",
    "DriverError",
    "EnvVar",
    "ExecResult",
    "GuestError",
    "HypervisorConfig",
    "HypervisorError",
    "Mount",
    "NetworkConfig",
    "NetworkMode",
    "NotSupportedError",
    "Param",
    "Pod",
    "PodConfig",
    "PodExistsError",
    "PodNotFoundError",
    "PodStatus",
    "PortForward",
    "PrivilegeError",
    "RLimit",
    "Resources",
    "Socket",
    "State",
    "StateError",
    "StorageError",
    "SupervisorError",
    "SupervisorLostError",
    "VCError",
    "VMStartError",
    "Volume",
    "create_container",
    "create_pod",
    "delete_container",
    "delete_pod",
    "enter_container",
    "enter_pod",
    "kill_container",
    "list_pods",
    "run_pod",
    "start_container",
    "start_pod",
    "stats_container",
    "status_container",
    "status_pod",
    "stop_container",
    "stop_pod",
    "wait_container",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in _MODULES:
            found = vars(import_module(f"{__name__}.{module}")).get(name)
            if found is not None:
                globals()[name] = found
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
