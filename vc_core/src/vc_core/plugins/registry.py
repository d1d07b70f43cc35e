"""Finds plug-ins, validates them against their hook specifications, and calls them: one :class:`Plugins` per runtime.

stevedore (in ``discovery``) finds the installed distribution that supplies the driver called "qemu" and loads that
driver; pluggy validates it against the hook specifications and carries each call to it through the wrappers of
extensions. The typed faces (in ``drivers``) check what a hook returns.
"""

from __future__ import annotations

import atexit
import inspect
import logging
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import pluggy

from vc_core.config.values import quoted
from vc_core.driver.hooks import PROJECT, AgentSpec, DriverSpec, ExtensionSpec, GuestSpec, HypervisorSpec, SpawnerSpec
from vc_core.driver.kinds import PluginKind
from vc_core.errors import DriverConflictError, DriverError, DriverLoadError, DriverNotFoundError
from vc_core.plugins.drivers import (
    FACES,
    AgentDriver,
    BaseDriver,
    Driver,
    DriverInfo,
    GuestDriver,
    HypervisorDriver,
    SpawnerDriver,
)
from vc_core.plugins.guard import call, guard
from vc_core.plugins.handed import Found, Handed
from vc_core.plugins.hook_calls import HookResult, perform, track
from vc_core.plugins.loaded import NOT_A_CLASS_MESSAGE, LoadedPlugin
from vc_core.plugins.notifications import QUEUE, HookTimeoutError, with_timeout
from vc_core.plugins.quoting import one_line
from vc_core.plugins.rules import OPTIONAL, REQUIRED, violations
from vc_core.plugins.running_call import Executing

if TYPE_CHECKING:
    from vc_core.plugins.discovery import Catalogue

#: Seconds that importing an extension, or one of its hooks, may take.
EXTENSION_TIMEOUT = 3.0

#: Seconds that importing a driver may take; the modules of a large one take a second, more from a slow disk.
LOAD_TIMEOUT = 15.0

#: Seconds that a process blocks, before it ends, until its notifications are delivered: time for one extension that
#: hangs and is disabled, and for the others.
DRAIN_TIMEOUT = 2 * EXTENSION_TIMEOUT

atexit.register(QUEUE.drain, DRAIN_TIMEOUT)

#: Installed extensions that did not load, or hung, in this process: each name with its distributions. A command makes
#: several ``Plugins``; none of them tries these again.
_unusable: set[tuple[str, str]] = set()

_log = logging.getLogger(__name__)

#: How the names of all hooks begin.
_PREFIX = "vc_"

_D = TypeVar("_D", bound=BaseDriver)


def _key(extension: LoadedPlugin) -> tuple[str, str]:
    return extension.name, f"{extension.distribution} {extension.version}"


class _Manager(pluggy.PluginManager):
    """Looks for hooks among the members that can be some, not among those that each class has, which takes longer."""

    def parse_hookspec_opts(self, module_or_class: object, name: str) -> pluggy.HookspecOpts | None:
        return super().parse_hookspec_opts(module_or_class, name) if name.startswith(_PREFIX) else None  # type: ignore[arg-type]

    def parse_hookimpl_opts(self, plugin: object, name: str) -> pluggy.HookimplOpts | None:
        return None if name.startswith("__") else super().parse_hookimpl_opts(plugin, name)


class Plugins:
    """The plug-ins of one runtime. Cheap to make: installed distributions are read when a name is first looked up.

    May be used from several threads. A driver is loaded at its first use, extensions before the first hook is called.
    Plug-ins are imported, their hooks called, extensions notified and their wrappers executed on threads of their own.
    """

    def __init__(self, *, bare: bool = False, found: Sequence[Found] = ()) -> None:
        """With ``bare``, to check plug-ins: no installed extension is loaded, and objects are as the drivers made them.

        An exception of such an object is then that of the driver. ``found``: all that another process has found; what
        is installed is searched only for what cannot be loaded of them.
        """
        self._bare = bare
        self._lock = threading.RLock()
        self._catalogue: Catalogue | Handed | None = Handed(found) if found else None
        self._plugins: dict[tuple[PluginKind, str], LoadedPlugin] = {}
        self._broken_extensions: dict[str, DriverError] = {}
        self._extensions_loaded = False
        self._manager = _Manager(PROJECT)
        for spec in (HypervisorSpec, AgentSpec, SpawnerSpec, GuestSpec, DriverSpec, ExtensionSpec):
            self._manager.add_hookspecs(spec)

    def names(self, kind: PluginKind) -> list[str]:
        """Return the sorted names of all plug-ins of one kind, without importing any of them."""
        with self._lock:
            added = {name for added_kind, name in self._plugins if added_kind is kind}
            return sorted(added.union(self._installed().names(kind)))

    def hypervisor(self, name: str) -> HypervisorDriver:
        """Return the hypervisor driver ``name``, loaded. Raises DriverError as :meth:`driver` does."""
        return self._face(HypervisorDriver, name)

    def agent(self, name: str) -> AgentDriver:
        """Return the agent driver ``name``, loaded. Raises DriverError as :meth:`driver` does."""
        return self._face(AgentDriver, name)

    def spawner(self, name: str) -> SpawnerDriver:
        """Return the spawner driver ``name``, loaded. Raises DriverError as :meth:`driver` does."""
        return self._face(SpawnerDriver, name)

    def guest(self, name: str) -> GuestDriver:
        """Return the guest driver ``name``, loaded. Raises DriverError as :meth:`driver` does."""
        return self._face(GuestDriver, name)

    def driver(self, kind: PluginKind, name: str) -> Driver:
        """Return the driver ``name``, loaded; ``kind`` is any but EXTENSION.

        Raises DriverNotFoundError when no distribution offers it, DriverConflictError when two do, DriverLoadError
        when it cannot be imported or made, DriverContractError when it breaks its hook specification.
        """
        return self._face(FACES[kind], name)

    def add_driver(self, kind: PluginKind, name: str, plugin: object) -> None:
        """Add a plug-in object, of a driver or an extension, which hides an installed one of the same kind and name.

        Called by programs that bring their own driver, and by tests. Raises DriverConflictError if ``name`` was already
        loaded or added, DriverContractError if the object breaks its hook specification.
        """
        kind = PluginKind(kind)
        with self._lock:
            if (kind, name) in self._plugins:
                raise DriverConflictError(f"{self._plugins[kind, name]} is already loaded", kind=kind, name=name)
            self._register(LoadedPlugin(kind, name, "", "", plugin))

    def extension(self, name: str) -> None:
        """Load an extension. Called to validate one; raises DriverError as :meth:`driver` does."""
        self.load_extensions()
        if name in self._broken_extensions:
            raise self._broken_extensions[name]
        self._load(PluginKind.EXTENSION, name)

    def installed(self) -> list[DriverInfo]:
        """Return all added and installed plug-ins, loaded or not; a name that two distributions offer appears twice."""
        from vc_core.plugins.discovery import installed, supplier

        with self._lock:
            catalogue = installed()
            found = [DriverInfo(one.kind, one.name, "", "") for one in self._plugins.values() if not one.distribution]
            added = {(one.kind, one.name) for one in found}
            for kind in PluginKind:
                for entry_point in catalogue.offers(kind):
                    if (kind, entry_point.name) not in added:
                        found.append(DriverInfo(kind, entry_point.name, *supplier(entry_point)))
        return found

    def notify_pod_transition(self, pod_id: str, old: str, new: str) -> None:
        """Notify every extension that a pod changed its state; see ``vc_pod_transition``.

        Called by the process that wrote the new state. Never raises, and returns at once: one thread delivers the
        notifications of this process, of pods and containers alike, in the order of these calls. See :meth:`drain`.
        """
        QUEUE.put(self._deliver, "vc_pod_transition", {"pod_id": pod_id, "old": old, "new": new})

    def notify_container_transition(self, pod_id: str, container_id: str, old: str, new: str) -> None:
        """Notify every extension that a container changed its state, as :meth:`notify_pod_transition` does."""
        arguments = {"pod_id": pod_id, "container_id": container_id, "old": old, "new": new}
        QUEUE.put(self._deliver, "vc_container_transition", arguments)

    def drain(self, timeout: float = DRAIN_TIMEOUT) -> None:
        """Block until all notifications of this process are delivered, for ``timeout`` seconds at most. Never raises.

        Called at the end of a process that wrote states; never on an event loop with other work.
        """
        QUEUE.drain(timeout)

    def load_extensions(self) -> None:
        """Load all extensions once, each within ``EXTENSION_TIMEOUT`` seconds; log those that fail. Never raises.

        One that failed or hung in this process before, with another object of this class, is left out silently.
        The first call of a hook does this too, and blocks meanwhile. Called beforehand where hooks are called on an
        event loop.
        """
        with self._lock:
            if self._extensions_loaded:
                return
            self._extensions_loaded = True
            if self._bare:
                return
            for name in self.names(PluginKind.EXTENSION):
                key = name, self._installed().suppliers(PluginKind.EXTENSION, name)
                if key in _unusable:
                    continue
                try:
                    self._load(PluginKind.EXTENSION, name)
                except DriverError as error:
                    self._broken_extensions[name] = error
                    _unusable.add(key)
                    _log.warning("extension skipped: %s", error)

    def _face(self, face: type[_D], name: str) -> _D:
        return face(self._load(face.kind, name), self._call_hook)

    def _call_hook(self, hook: str, plugin: LoadedPlugin, **arguments: object) -> HookResult:
        """Call one driver's hook through the wrappers of all extensions; see ``CallHook``.

        The set of plug-ins left out is made for each call: a stored one would let in drivers that are registered later.
        """
        self.load_extensions()
        others = [
            other.obj for other in self._registered() if other is not plugin and other.kind is not PluginKind.EXTENSION
        ]
        return perform(self._manager.subset_hook_caller(hook, others), plugin, arguments)

    def _protect(self, plugin: LoadedPlugin, value: object) -> object:
        return value if self._bare else guard(plugin, value)

    def _deliver(self, hook: str, arguments: Mapping[str, object]) -> None:
        """Call a hook of every extension, each on a thread of its own. Runs on the thread of the notifications."""
        self.load_extensions()
        plugins = self._registered()
        for extension in plugins:
            if extension.kind is not PluginKind.EXTENSION or _key(extension) in _unusable:
                continue  # it hung in a call through another object of this class
            others = [other.obj for other in plugins if other is not extension]
            caller = self._manager.subset_hook_caller(hook, others)
            if not caller.get_hookimpls():
                continue
            try:
                with Executing(extension.call(hook)):
                    with_timeout(partial(caller, **arguments), EXTENSION_TIMEOUT)
            except HookTimeoutError:
                self._disable(extension, hook)
            except BaseException:  # SystemExit and KeyboardInterrupt too: raised on a thread, they end nothing
                _log.exception("%s raised from %s; the exception is ignored", extension, hook)

    def _disable(self, extension: LoadedPlugin, hook: str) -> None:
        """Unregister an extension whose hook, or wrapper of a hook, did not return in time."""
        with self._lock:
            if self._plugins.pop((extension.kind, extension.name), None) is not None:
                self._manager.unregister(extension.obj)
                if extension.distribution:
                    _unusable.add(_key(extension))
        message = "%s: hook %s did not return within %g s; the extension is disabled"
        _log.error(message, extension, hook, EXTENSION_TIMEOUT)

    def _registered(self) -> list[LoadedPlugin]:
        with self._lock:
            return list(self._plugins.values())

    def _installed(self) -> Catalogue | Handed:
        if self._catalogue is None:
            from vc_core.plugins.discovery import installed  # 40 ms, which a supervisor does without

            self._catalogue = installed()
        return self._catalogue

    def _load(self, kind: PluginKind, name: str) -> LoadedPlugin:
        """Return a plug-in, loaded at most once. Raises DriverError as :meth:`driver` does."""
        with self._lock:
            if (kind, name) in self._plugins:
                return self._plugins[kind, name]
            if name not in self.names(kind):
                from vc_core.plugins.discovery import Catalogue

                self._catalogue = Catalogue()  # it may have been installed after the other one was made
                available = self.names(kind)
                if name not in available:
                    raise DriverNotFoundError(self._not_found(kind, name, available), kind=kind, name=name)
            load = partial(self._installed().load, kind, name)
            try:
                timeout = EXTENSION_TIMEOUT if kind is PluginKind.EXTENSION else LOAD_TIMEOUT
                obj, distribution, version = with_timeout(load, timeout)
            except HookTimeoutError as error:
                supplied = self._installed().suppliers(kind, name)
                message = f"{kind.noun} {name!r} of {supplied} did not load within {timeout:g} s; "
                message += "repair or uninstall it"
                raise DriverLoadError(message, kind=kind, name=name) from error
            except DriverLoadError:
                if not isinstance(self._catalogue, Handed):
                    raise
                self._catalogue = None
                return self._load(kind, name)
            return self._register(LoadedPlugin(kind, name, distribution, version, obj))

    def _not_found(self, kind: PluginKind, name: str, available: Sequence[str]) -> str:
        from vc_core.plugins.discovery import INSTALL_DEFAULTS, advice

        if not any(self.names(other) for other in PluginKind if other is not PluginKind.EXTENSION):
            return f"there is no {kind.noun} {name!r}, nor any other driver; {INSTALL_DEFAULTS}"
        installed = f"installed: {', '.join(available)}" if available else f"no {kind.noun} is installed"
        return f"there is no {kind.noun} {name!r} ({installed}); {advice(name, available, kind)}"

    def _register(self, plugin: LoadedPlugin) -> LoadedPlugin:
        """Register a plug-in object with pluggy and validate it; unregister it if it breaks a rule.

        Raises DriverContractError.
        """
        label = f"{plugin.kind}:{plugin.name}"
        try:
            call(plugin, "an attribute", lambda: self._validate(plugin, label))
        except BaseException:
            self._manager.unregister(name=label)
            raise
        for caller in self._manager.get_hookcallers(plugin.obj) or ():
            for impl in caller.get_hookimpls():
                if impl.plugin is plugin.obj:
                    track(impl, caller.name, plugin, self._protect, EXTENSION_TIMEOUT, self._disable)
        self._plugins[plugin.kind, plugin.name] = plugin
        return plugin

    def _validate(self, plugin: LoadedPlugin, label: str) -> None:
        """Register a plug-in object with pluggy, as ``label``, and validate it. Raises DriverContractError."""
        obj = plugin.obj
        if obj is None or inspect.isclass(obj) or inspect.ismodule(obj):
            raise plugin.contract_error(f"is {quoted(obj)}; {NOT_A_CLASS_MESSAGE}")
        if type(obj).__eq__ is not object.__eq__:
            # pluggy keeps plug-ins in sets and compares them: it would take two equal ones for one.
            raise plugin.contract_error(
                f"is an object of {type(obj).__name__}, which defines __eq__; it must compare by identity"
            )
        try:
            self._manager.register(obj, label)
            self._manager.check_pending()
        except (pluggy.PluginValidationError, ValueError) as error:
            what = one_line(error).partition(": ")[2]
            hooks = ", ".join(sorted(REQUIRED[plugin.kind] | OPTIONAL[plugin.kind]))
            raise plugin.contract_error(f"breaks its specification: {what}; its hooks can be {hooks}") from error
        if broken := list(violations(self._manager, plugin)):
            raise plugin.contract_error("; ".join(broken))
