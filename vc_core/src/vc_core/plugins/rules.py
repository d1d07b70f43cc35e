"""Which hooks a plug-in of each kind must and may implement, and what else this project requires of them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import pluggy

from vc_core.driver.hooks import AgentSpec, DriverSpec, ExtensionSpec, GuestSpec, HypervisorSpec, SpawnerSpec
from vc_core.driver.kinds import PluginKind
from vc_core.plugins.loaded import LoadedPlugin


def _hooks(*specs: type) -> frozenset[str]:
    return frozenset(name for spec in specs for name in vars(spec) if name.startswith("vc_"))


#: Hooks that a plug-in of each kind must implement.
REQUIRED: dict[PluginKind, frozenset[str]] = {
    PluginKind.HYPERVISOR: _hooks(HypervisorSpec) - {"vc_hypervisor_guest"},
    PluginKind.AGENT: _hooks(AgentSpec) - {"vc_agent_guest"},
    PluginKind.SPAWNER: _hooks(SpawnerSpec),
    PluginKind.GUEST: _hooks(GuestSpec),
    PluginKind.EXTENSION: frozenset(),
}

#: Hooks that it may implement besides.
OPTIONAL: dict[PluginKind, frozenset[str]] = {
    PluginKind.HYPERVISOR: _hooks(DriverSpec) | {"vc_hypervisor_guest"},
    PluginKind.AGENT: _hooks(DriverSpec) | {"vc_agent_guest"},
    PluginKind.SPAWNER: _hooks(DriverSpec),
    PluginKind.GUEST: _hooks(DriverSpec),
    PluginKind.EXTENSION: _hooks(ExtensionSpec),
}


def violations(manager: pluggy.PluginManager, plugin: LoadedPlugin) -> Iterator[str]:
    """Yield one clause for each rule that a registered plug-in breaks although pluggy accepts it.

    Called by the registry once ``manager`` has registered the plug-in and checked it against the specifications.
    """
    kind = plugin.kind
    allowed = REQUIRED[kind] | OPTIONAL[kind]
    implemented = set()
    for caller in manager.get_hookcallers(plugin.obj) or ():
        hook = caller.name
        implemented.add(hook)
        for impl in caller.get_hookimpls():
            if impl.plugin is not plugin.obj or not caller.has_spec():
                continue
            if kind is PluginKind.EXTENSION:
                if hook not in allowed and not impl.wrapper:
                    yield f"implements {hook}, which an extension may only wrap (hookimpl(wrapper=True))"
            elif hook not in allowed:
                yield f"implements {hook}, which is not a hook of a {kind.noun}"
            elif impl.wrapper or impl.hookwrapper:
                yield f"wraps {hook}, which only an extension may"
            if inspect.iscoroutinefunction(impl.function) or inspect.isasyncgenfunction(impl.function):
                yield f"implements {hook} with async def; hooks are synchronous"
            for argument in inspect.signature(impl.function).parameters.values():
                if argument.kind is not argument.POSITIONAL_OR_KEYWORD or argument.default is not argument.empty:
                    yield (
                        f"declares argument {str(argument)!r} of {hook}, which pluggy may never fill in; "
                        "name arguments as the specification does, without default"
                    )
    for hook in sorted(REQUIRED[kind] - implemented):
        yield f"does not implement {hook}, which is required; mark the method with vc_core.driver.hookimpl"
