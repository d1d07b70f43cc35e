"""Containers that run inside a virtual machine per pod: the blocking API.

``vc_core.aio`` has the same functions as coroutines. What is imported here is loaded on first use, so that a program
that only lists pods stays fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from vc_core.config import (
        Cmd,
        ContainerConfig,
        EnvVar,
        HypervisorConfig,
        Param,
        PodConfig,
        Resources,
        Socket,
        Volume,
    )
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
    from vc_core.results import ContainerStatus, ExecResult, PodStatus
    from vc_core.states import State
    from vc_core.sync import (
        Pod,
        create_pod,
        delete_pod,
        enter_container,
        list_pods,
        run_pod,
        start_pod,
        status_pod,
        stop_pod,
    )

_HOME = {
    "vc_core.config": (
        "Cmd", "ContainerConfig", "EnvVar", "HypervisorConfig", "Param", "PodConfig", "Resources", "Socket", "Volume",
    ),
    "vc_core.errors": (
        "AgentError", "BusyError", "CommandError", "CommandTimeoutError", "ConfigError", "ContainerExistsError",
        "ContainerNotFoundError", "DriverError", "GuestError", "HypervisorError", "NotSupportedError", "PodExistsError",
        "PodNotFoundError", "PrivilegeError", "StateError", "StorageError", "SupervisorError", "SupervisorLostError",
        "VCError", "VMStartError",
    ),
    "vc_core.results": ("ContainerStatus", "ExecResult", "PodStatus"),
    "vc_core.states": ("State",),
    "vc_core.sync": (
        "Pod", "create_pod", "delete_pod", "enter_container", "list_pods", "run_pod", "start_pod", "status_pod",
        "stop_pod",
    ),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "AgentError",
    "BusyError",
    "Cmd",
    "CommandError",
    "CommandTimeoutError",
    "ConfigError",
    "ContainerConfig",
    "ContainerExistsError",
    "ContainerNotFoundError",
    "ContainerStatus",
    "DriverError",
    "EnvVar",
    "ExecResult",
    "GuestError",
    "HypervisorConfig",
    "HypervisorError",
    "NotSupportedError",
    "Param",
    "Pod",
    "PodConfig",
    "PodExistsError",
    "PodNotFoundError",
    "PodStatus",
    "PrivilegeError",
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
    "create_pod",
    "delete_pod",
    "enter_container",
    "list_pods",
    "run_pod",
    "start_pod",
    "status_pod",
    "stop_pod",
]


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(module), name)
    return value
