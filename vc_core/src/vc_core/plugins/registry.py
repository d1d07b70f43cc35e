"""Finds plug-ins, holds them to their hook specifications, and calls them: one :class:`Plugins` per runtime.

stevedore (in ``_discovery``) answers which installed distribution supplies the driver called "qemu" and loads that one;
pluggy answers whether what it supplied keeps the hook specification, and carries a call to it through the wrappers of
extensions. pluggy returns ``Any``; the typed faces (:class:`HypervisorDriver` and its siblings) check every value, so
that a driver's mistake ends as a DriverContractError that names distribution and hook.
"""

from __future__ import annotations

import inspect
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from functools import partial
from typing import Any, TypeVar

import pluggy

from vc_core.driver.hooks import PROJECT, AgentSpec, DriverSpec, ExtensionSpec, GuestSpec, HypervisorSpec, SpawnerSpec
from vc_core.driver.kinds import PluginKind
from vc_core.errors import (
    DriverConflictError,
    DriverError,
    DriverLoadError,
    DriverNotFoundError,
    VCError,
)
from vc_core.plugins.discovery import INSTALL_DEFAULTS, NO_CLASS, Catalogue, how_to_install, in_a_line, supplier
from vc_core.plugins.drivers import (
    AgentDriver,
    BaseDriver,
    DriverInfo,
    GuestDriver,
    HypervisorDriver,
    LoadedPlugin,
    SpawnerDriver,
)
from vc_core.plugins.rules import OPTIONAL, REQUIRED

__all__ = [
    "AgentDriver",
    "DriverInfo",
    "GuestDriver",
    "HypervisorDriver",
    "PluginKind",
    "Plugins",
    "SpawnerDriver",
]

#: Seconds for an extension to be imported, and to return from a notification.
EXTENSION_TIMEOUT = 3.0

#: Seconds that a process waits, before it ends, for the notifications that it has not delivered: time for one extension
#: that hangs and is disabled, and for the others.
DRAIN_TIMEOUT = 2 * EXTENSION_TIMEOUT

#: Most notifications that wait for an extension which is slow, but not slow enough to be disabled.
_NOTIFICATIONS_MAX = 1000

_log = logging.getLogger(__name__)

_T = TypeVar("_T")


class _OverrunError(Exception):
    """An extension does not return."""


def _in_time(function: Callable[[], _T]) -> _T:
    """Call an extension's code, which must not hold us up for ever. Raises what it raises, and _OverrunError.

    A call that overruns is left behind in its thread, which keeps no process from ending.
    """
    outcome: Future[_T] = Future()

    def call() -> None:
        try:
            outcome.set_result(function())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=call, name="extension", daemon=True).start()
    if not wait([outcome], EXTENSION_TIMEOUT).done:
        raise _OverrunError
    return outcome.result()


class _Notifications:
    """Delivers notifications in their order, on one thread that lives as long as some wait. Used by several threads."""

    def __init__(self, deliver: Callable[[str, Mapping[str, object]], None]) -> None:
        self._deliver = deliver
        self._changed = threading.Condition()
        self._waiting: deque[tuple[str, Mapping[str, object]]] = deque()
        self._delivering = False

    def put(self, hook: str, arguments: Mapping[str, object]) -> None:
        """Queue a call of a hook; one that finds the queue full is logged and dropped. Returns at once."""
        with self._changed:
            if len(self._waiting) == _NOTIFICATIONS_MAX:
                _log.error("the extensions are too slow: %s with %s is not delivered", hook, arguments)
                return
            self._waiting.append((hook, arguments))
            if not self._delivering:
                self._delivering = True
                threading.Thread(target=self._work, name="notifications", daemon=True).start()

    def drain(self, timeout: float) -> None:
        """Block until all are delivered, ``timeout`` seconds at most; what remains then is logged."""
        with self._changed:
            if not self._changed.wait_for(lambda: not self._delivering, timeout):
                _log.error("%d notifications of extensions are not delivered after %g s", len(self._waiting), timeout)

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._waiting:
                    self._delivering = False
                    self._changed.notify_all()
                    return
                hook, arguments = self._waiting.popleft()
            try:
                self._deliver(hook, arguments)
            except Exception:
                _log.exception("%s cannot be delivered", hook)


_D = TypeVar("_D", bound=BaseDriver)


class Plugins:
    """The plug-ins of one runtime. Making one costs little; distributions are looked at when a name is asked for.

    May be used from several threads. A driver is loaded at its first use, extensions before the first hook is called.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._catalogue: Catalogue | None = None
        self._plugins: dict[tuple[PluginKind, str], LoadedPlugin] = {}
        self._broken_extensions: dict[str, DriverError] = {}
        self._extensions_loaded = False
        self._notifications = _Notifications(self._deliver)
        self._manager = pluggy.PluginManager(PROJECT)
        for spec in (HypervisorSpec, AgentSpec, SpawnerSpec, GuestSpec, DriverSpec, ExtensionSpec):
            self._manager.add_hookspecs(spec)

    def names(self, kind: PluginKind) -> list[str]:
        """Return the names of all plug-ins of one kind, sorted. Imports none of them."""
        with self._lock:
            added = {name for added_kind, name in self._plugins if added_kind is kind}
            return sorted(added | {entry.name for entry in self._installed().offers(kind)})

    def hypervisor(self, name: str) -> HypervisorDriver:
        """Return the hypervisor driver ``name``.

        Raises DriverNotFoundError, DriverConflictError, DriverLoadError, DriverContractError; so do the next three.
        """
        return self._driver(HypervisorDriver, name)

    def agent(self, name: str) -> AgentDriver:
        """Return the agent driver ``name``."""
        return self._driver(AgentDriver, name)

    def spawner(self, name: str) -> SpawnerDriver:
        """Return the spawner driver ``name``."""
        return self._driver(SpawnerDriver, name)

    def guest(self, name: str) -> GuestDriver:
        """Return the guest driver ``name``."""
        return self._driver(GuestDriver, name)

    def add_driver(self, kind: PluginKind, name: str, plugin: object) -> None:
        """Add a plug-in object, of a driver or an extension, that no distribution offers or instead of one that does.

        For programs that bring their own driver, and for tests. Raises DriverConflictError if ``name`` was already
        loaded or added, DriverContractError.
        """
        kind = PluginKind(kind)
        with self._lock:
            if (kind, name) in self._plugins:
                raise DriverConflictError(f"{self._plugins[kind, name]} is in use already", kind=kind, name=name)
            self._register(LoadedPlugin(kind, name, "", "", plugin))

    def extension(self, name: str) -> None:
        """Load an extension, to see whether it can be. Raises DriverError as :meth:`hypervisor` does."""
        self._load_extensions()
        if name in self._broken_extensions:
            raise self._broken_extensions[name]
        self._load(PluginKind.EXTENSION, name)

    def installed(self) -> list[DriverInfo]:
        """Return what is there of all kinds, imported or not; a name that two distributions offer is there twice."""
        with self._lock:
            found = [DriverInfo(one.kind, one.name, "", "") for one in self._plugins.values() if not one.distribution]
            added = {(one.kind, one.name) for one in found}
            for kind in PluginKind:
                for entry_point in self._installed().offers(kind):
                    if (kind, entry_point.name) not in added:
                        found.append(DriverInfo(kind, entry_point.name, *supplier(entry_point)))
        return found

    def notify_pod_transition(self, pod_id: str, old: str, new: str) -> None:
        """Notify every extension that a pod changed its state; see ``vc_pod_transition``.

        Called by the process that wrote the new state. Never raises, and returns at once: a thread delivers the
        notifications of this object, of pods and containers, in the order of these calls. See :meth:`drain`.
        """
        self._notifications.put("vc_pod_transition", {"pod_id": pod_id, "old": old, "new": new})

    def notify_container_transition(self, pod_id: str, container_id: str, old: str, new: str) -> None:
        """Notify every extension that a container changed its state, as :meth:`notify_pod_transition` does."""
        arguments = {"pod_id": pod_id, "container_id": container_id, "old": old, "new": new}
        self._notifications.put("vc_container_transition", arguments)

    def drain(self, timeout: float = DRAIN_TIMEOUT) -> None:
        """Block until all notifications are delivered, ``timeout`` seconds at most. Never raises.

        Called at the end of a process, or of an operation, that wrote states; not on an event loop that serves others.
        """
        self._notifications.drain(timeout)

    def load_extensions(self) -> None:
        """Load all extensions, unless they are; each may take ``EXTENSION_TIMEOUT`` seconds. Never raises.

        The first call of a hook does it too. Called beforehand where hooks are called on an event loop.
        """
        self._load_extensions()

    def call_one(self, hook: str, plugin: LoadedPlugin, **arguments: object) -> Any:
        """Call one driver's hook through the wrappers of all extensions, and return what comes out.

        Called by the typed faces only. The set of those left out is made anew for each call: a stored one would let
        drivers in that are registered later. Raises the hook's own VCError, DriverContractError from anything else.
        """
        self._load_extensions()
        others = [
            other.obj for other in self._registered() if other is not plugin and other.kind is not PluginKind.EXTENSION
        ]
        caller = self._manager.subset_hook_caller(hook, others)
        try:
            return caller(**arguments)
        except VCError:
            raise
        except (Exception, SystemExit) as error:
            wrappers = [impl.plugin_name for impl in caller.get_hookimpls() if impl.wrapper]
            around = f" (wrapped by {', '.join(wrappers)})" if wrappers else ""
            raise plugin.fault(
                f"raised {in_a_line(error)} from {hook}{around}; hooks may raise only VCError"
            ) from error

    def _deliver(self, hook: str, arguments: Mapping[str, object]) -> None:
        """Call a hook of every extension. Called on the thread of the notifications."""
        self._load_extensions()
        plugins = self._registered()
        for extension in plugins:
            if extension.kind is not PluginKind.EXTENSION:
                continue
            others = [other.obj for other in plugins if other is not extension]
            caller = self._manager.subset_hook_caller(hook, others)
            if not caller.get_hookimpls():
                continue
            try:
                _in_time(partial(caller, **arguments))
            except _OverrunError:
                self._drop(extension)
                overrun = "%s: hook %s did not return within %g s; the extension is disabled"
                _log.error(overrun, extension, hook, EXTENSION_TIMEOUT)
            except BaseException:  # whatever it raises on a thread of its own, KeyboardInterrupt and SystemExit too
                _log.exception("%s raised from %s; passed over", extension, hook)

    def _drop(self, plugin: LoadedPlugin) -> None:
        with self._lock:
            if self._plugins.pop((plugin.kind, plugin.name), None) is not None:
                self._manager.unregister(plugin.obj)

    def _registered(self) -> list[LoadedPlugin]:
        with self._lock:
            return list(self._plugins.values())

    def _installed(self) -> Catalogue:
        if self._catalogue is None:
            self._catalogue = Catalogue()
        return self._catalogue

    def _driver(self, face: type[_D], name: str) -> _D:
        return face(self, self._load(face.kind, name))

    def _load(self, kind: PluginKind, name: str) -> LoadedPlugin:
        """Return a plug-in, loaded at most once."""
        with self._lock:
            if (kind, name) in self._plugins:
                return self._plugins[kind, name]
            if name not in self.names(kind):
                self._catalogue = None  # it may have been installed since
                available = self.names(kind)
                if name not in available:
                    raise DriverNotFoundError(self._not_found(kind, name, available), kind=kind, name=name)
            load = partial(self._installed().load, kind, name)
            try:
                obj, entry_point = _in_time(load) if kind is PluginKind.EXTENSION else load()
            except _OverrunError as error:
                what = f"extension {name!r} is not loaded after {EXTENSION_TIMEOUT:g} s; repair or uninstall it"
                raise DriverLoadError(what, kind=kind, name=name) from error
            return self._register(LoadedPlugin(kind, name, *supplier(entry_point), obj))

    def _not_found(self, kind: PluginKind, name: str, available: Sequence[str]) -> str:
        if not any(self.names(other) for other in PluginKind if other is not PluginKind.EXTENSION):
            return f"there is no {kind.noun} {name!r}, nor any other driver; {INSTALL_DEFAULTS}"
        installed = f"installed: {', '.join(available)}" if available else f"no {kind.noun} is installed"
        return f"there is no {kind.noun} {name!r} ({installed}); {how_to_install(name, kind)}"

    def _load_extensions(self) -> None:
        with self._lock:
            if self._extensions_loaded:
                return
            self._extensions_loaded = True
            for name in self.names(PluginKind.EXTENSION):
                try:
                    self._load(PluginKind.EXTENSION, name)
                except DriverError as error:
                    self._broken_extensions[name] = error
                    _log.warning("passed over: %s", error)

    def _register(self, plugin: LoadedPlugin) -> LoadedPlugin:
        """Hand a plug-in object to pluggy and hold it to its specification; a faulty one leaves no trace.

        Raises DriverContractError.
        """
        obj = plugin.obj
        if obj is None or inspect.isclass(obj) or inspect.ismodule(obj):
            raise plugin.fault(f"is {obj!r}; {NO_CLASS}")
        if type(obj).__eq__ is not object.__eq__:
            # pluggy keeps plug-ins in sets and compares them: two that are equal would be taken for one.
            raise plugin.fault(
                f"is an object of {type(obj).__name__}, which defines __eq__; it must compare by identity"
            )
        label = f"{plugin.kind}:{plugin.name}"
        try:
            self._manager.register(obj, label)
            self._manager.check_pending()
            faults = list(self._faults(plugin))
        except (pluggy.PluginValidationError, ValueError) as error:
            self._manager.unregister(name=label)
            what = " ".join(str(error).split())
            hooks = ", ".join(sorted(REQUIRED[plugin.kind] | OPTIONAL[plugin.kind]))
            raise plugin.fault(f"does not keep its specification: {what}; its hooks can be {hooks}") from error
        if faults:
            self._manager.unregister(name=label)
            raise plugin.fault("; ".join(faults))
        self._plugins[plugin.kind, plugin.name] = plugin
        return plugin

    def _faults(self, plugin: LoadedPlugin) -> Iterator[str]:
        """Yield what pluggy accepts and this project does not."""
        kind = plugin.kind
        allowed = REQUIRED[kind] | OPTIONAL[kind]
        implemented = set()
        for caller in self._manager.get_hookcallers(plugin.obj) or ():
            hook = caller.name
            implemented.add(hook)
            for impl in caller.get_hookimpls():
                if impl.plugin is not plugin.obj or not caller.has_spec():
                    continue
                if kind is PluginKind.EXTENSION:
                    if hook not in allowed and not impl.wrapper:
                        yield f"implements {hook}, which an extension may only wrap (hookimpl(wrapper=True))"
                elif hook not in allowed:
                    yield f"implements {hook}, which is no hook of a {kind.noun}"
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
