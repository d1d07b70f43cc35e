"""All that a driver imports from the core: ``from vc_core.driver import Hypervisor, hookimpl``.

A driver may import only this package, ``vc_core.errors`` and, in tests, ``vc_core.testing``. A name is loaded on its
first use. The modules ``console_log``, ``initramfs`` and ``vm_process`` are helpers, used by their qualified names.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vc_core.config.container import Cmd, DeviceNode, EnvVar, Mount
    from vc_core.config.limits import CAPABILITIES, DEFAULT_CAPABILITIES, RLIMITS, CapabilitySets, RLimit
    from vc_core.config.network import NetworkConfig, NetworkMode, PortForward
    from vc_core.config.pod import HypervisorConfig, Param, Resources, Socket, Volume
    from vc_core.decoding import convert, decode_json
    from vc_core.driver import console_log, initramfs, vm_process
    from vc_core.driver.agent import (
        Agent,
        AgentCapability,
        Confinement,
        GuestContainer,
        GuestDisk,
        GuestInterface,
        GuestMount,
        GuestNetwork,
        GuestProcessId,
        GuestRoute,
        OpenChannel,
        ProcessIO,
    )
    from vc_core.driver.console_log import ConsoleLog
    from vc_core.driver.context import Boot, PodContext
    from vc_core.driver.copies import GuestCopy
    from vc_core.driver.devices import (
        BlockDevice,
        Channel,
        Device,
        DiskLocation,
        GuestPort,
        NetworkInterface,
        SharedDirectory,
    )
    from vc_core.driver.files import open_regular, read_regular
    from vc_core.driver.guest import BuiltGuest, GuestBuilder, GuestImage, GuestPayload, GuestRequest, Progress
    from vc_core.driver.hooks import (
        AgentSpec,
        DriverSpec,
        ExtensionSpec,
        GuestSpec,
        HypervisorSpec,
        SpawnerSpec,
        hookimpl,
    )
    from vc_core.driver.host_context import HostContext
    from vc_core.driver.hypervisor import Hypervisor, HypervisorCapability, VMExit
    from vc_core.driver.kinds import PluginKind
    from vc_core.driver.options import read_options
    from vc_core.driver.process import ProcessIdentity, boot_id
    from vc_core.driver.process_hypervisor import ControlledVM, ProcessHypervisor
    from vc_core.driver.proxies import AgentProxy, HypervisorProxy
    from vc_core.driver.spawner import Spawner, SpawnTarget
    from vc_core.driver.terminal import TerminalSize
    from vc_core.driver.users import host_user
    from vc_core.driver.vm_process import VMProcess
    from vc_core.frozen import frozen
    from vc_core.host_report import CheckOutcome, HostCheck
    from vc_core.results import ContainerUsage
    from vc_core.trace import trace_guest, traced

#: The module that defines each name.
_HOMES = {
    "Cmd": "config.container",
    "DeviceNode": "config.container",
    "EnvVar": "config.container",
    "Mount": "config.container",
    "CAPABILITIES": "config.limits",
    "DEFAULT_CAPABILITIES": "config.limits",
    "RLIMITS": "config.limits",
    "CapabilitySets": "config.limits",
    "RLimit": "config.limits",
    "NetworkConfig": "config.network",
    "NetworkMode": "config.network",
    "PortForward": "config.network",
    "HypervisorConfig": "config.pod",
    "Param": "config.pod",
    "Resources": "config.pod",
    "Socket": "config.pod",
    "Volume": "config.pod",
    "convert": "decoding",
    "decode_json": "decoding",
    "Agent": "driver.agent",
    "AgentCapability": "driver.agent",
    "Confinement": "driver.agent",
    "GuestContainer": "driver.agent",
    "GuestCopy": "driver.copies",
    "GuestDisk": "driver.agent",
    "GuestInterface": "driver.agent",
    "GuestMount": "driver.agent",
    "GuestNetwork": "driver.agent",
    "GuestRoute": "driver.agent",
    "OpenChannel": "driver.agent",
    "GuestProcessId": "driver.agent",
    "ProcessIO": "driver.agent",
    "TerminalSize": "driver.terminal",
    "ConsoleLog": "driver.console_log",
    "Boot": "driver.context",
    "PodContext": "driver.context",
    "BlockDevice": "driver.devices",
    "Channel": "driver.devices",
    "Device": "driver.devices",
    "DiskLocation": "driver.devices",
    "GuestPort": "driver.devices",
    "NetworkInterface": "driver.devices",
    "SharedDirectory": "driver.devices",
    "open_regular": "driver.files",
    "read_regular": "driver.files",
    "BuiltGuest": "driver.guest",
    "GuestBuilder": "driver.guest",
    "GuestImage": "driver.guest",
    "GuestPayload": "driver.guest",
    "GuestRequest": "driver.guest",
    "Progress": "driver.guest",
    "AgentSpec": "driver.hooks",
    "DriverSpec": "driver.hooks",
    "ExtensionSpec": "driver.hooks",
    "GuestSpec": "driver.hooks",
    "HypervisorSpec": "driver.hooks",
    "SpawnerSpec": "driver.hooks",
    "hookimpl": "driver.hooks",
    "HostContext": "driver.host_context",
    "Hypervisor": "driver.hypervisor",
    "HypervisorCapability": "driver.hypervisor",
    "VMExit": "driver.hypervisor",
    "PluginKind": "driver.kinds",
    "read_options": "driver.options",
    "ProcessIdentity": "driver.process",
    "boot_id": "driver.process",
    "ControlledVM": "driver.process_hypervisor",
    "ProcessHypervisor": "driver.process_hypervisor",
    "AgentProxy": "driver.proxies",
    "HypervisorProxy": "driver.proxies",
    "SpawnTarget": "driver.spawner",
    "Spawner": "driver.spawner",
    "VMProcess": "driver.vm_process",
    "host_user": "driver.users",
    "frozen": "frozen",
    "CheckOutcome": "host_report",
    "ContainerUsage": "results",
    "HostCheck": "host_report",
    "trace_guest": "trace",
    "traced": "trace",
}

_HELPERS = ("console_log", "initramfs", "vm_process")

__all__ = [
    "CAPABILITIES",
    "DEFAULT_CAPABILITIES",
    "RLIMITS",
    "Agent",
    "AgentCapability",
    "AgentProxy",
    "AgentSpec",
    "BlockDevice",
    "Boot",
    "BuiltGuest",
    "CapabilitySets",
    "Channel",
    "CheckOutcome",
    "Cmd",
    "Confinement",
    "ConsoleLog",
    "ContainerUsage",
    "ControlledVM",
    "Device",
    "DeviceNode",
    "DiskLocation",
    "DriverSpec",
    "EnvVar",
    "ExtensionSpec",
    "GuestBuilder",
    "GuestContainer",
    "GuestCopy",
    "GuestDisk",
    "GuestImage",
    "GuestInterface",
    "GuestMount",
    "GuestNetwork",
    "GuestPayload",
    "GuestPort",
    "GuestProcessId",
    "GuestRequest",
    "GuestRoute",
    "GuestSpec",
    "HostCheck",
    "HostContext",
    "Hypervisor",
    "HypervisorCapability",
    "HypervisorConfig",
    "HypervisorProxy",
    "HypervisorSpec",
    "Mount",
    "NetworkConfig",
    "NetworkInterface",
    "NetworkMode",
    "OpenChannel",
    "Param",
    "PluginKind",
    "PodContext",
    "PortForward",
    "ProcessHypervisor",
    "ProcessIO",
    "ProcessIdentity",
    "Progress",
    "RLimit",
    "Resources",
    "SharedDirectory",
    "Socket",
    "SpawnTarget",
    "Spawner",
    "SpawnerSpec",
    "TerminalSize",
    "VMExit",
    "VMProcess",
    "Volume",
    "boot_id",
    "console_log",
    "convert",
    "decode_json",
    "frozen",
    "hookimpl",
    "host_user",
    "initramfs",
    "open_regular",
    "read_options",
    "read_regular",
    "trace_guest",
    "traced",
    "vm_process",
]


if not TYPE_CHECKING:  # with this function a type checker would accept every name

    def __getattr__(name: str) -> object:
        if name in _HELPERS:
            return import_module(f"{__name__}.{name}")
        if name in _HOMES:
            found = globals()[name] = getattr(import_module(f"vc_core.{_HOMES[name]}"), name)
            return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return [*__all__, *(name for name in globals() if name.startswith("__"))]
