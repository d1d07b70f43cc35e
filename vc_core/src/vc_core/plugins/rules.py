"""Which hooks each kind of plug-in must and may implement."""

from __future__ import annotations

from vc_core.driver.hooks import AgentSpec, DriverSpec, ExtensionSpec, GuestSpec, HypervisorSpec, SpawnerSpec
from vc_core.driver.kinds import PluginKind


def _hooks(*specs: type) -> frozenset[str]:
    return frozenset(name for spec in specs for name in vars(spec) if name.startswith("vc_"))


#: What a plug-in of each kind must implement, and what it may implement besides.
REQUIRED: dict[PluginKind, frozenset[str]] = {
    PluginKind.HYPERVISOR: _hooks(HypervisorSpec) - {"vc_hypervisor_guest"},
    PluginKind.AGENT: _hooks(AgentSpec) - {"vc_agent_guest"},
    PluginKind.SPAWNER: _hooks(SpawnerSpec),
    PluginKind.GUEST: _hooks(GuestSpec),
    PluginKind.EXTENSION: frozenset(),
}
OPTIONAL: dict[PluginKind, frozenset[str]] = {
    PluginKind.HYPERVISOR: _hooks(DriverSpec) | {"vc_hypervisor_guest"},
    PluginKind.AGENT: _hooks(DriverSpec) | {"vc_agent_guest"},
    PluginKind.SPAWNER: _hooks(DriverSpec),
    PluginKind.GUEST: _hooks(DriverSpec),
    PluginKind.EXTENSION: _hooks(ExtensionSpec),
}
