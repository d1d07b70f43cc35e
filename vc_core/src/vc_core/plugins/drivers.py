"""Typed faces of loaded drivers, one class for each kind: they call hooks and check what these return.

pluggy returns ``Any``. A value of the wrong type, whether a driver or the wrapper of an extension returned it, ends
here as a DriverContractError that names the distribution and the hook.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

from vc_core.config.defaults import DEFAULT_GUEST
from vc_core.config.values import quoted
from vc_core.driver.agent import Agent
from vc_core.driver.context import PodContext
from vc_core.driver.guest import GuestBuilder, GuestPayload
from vc_core.driver.host_context import HostContext
from vc_core.driver.hypervisor import Hypervisor
from vc_core.driver.kinds import PluginKind
from vc_core.driver.options import NoOptions, is_options_class, option_types, read_options
from vc_core.driver.spawner import Spawner
from vc_core.errors import ConfigError, DriverContractError, VCError
from vc_core.frozen import frozen
from vc_core.host_report import CheckOutcome, HostCheck
from vc_core.plugins.guard import call, from_signal
from vc_core.plugins.hook_calls import HookResult
from vc_core.plugins.loaded import LoadedPlugin
from vc_core.plugins.quoting import one_line

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@frozen
class DriverInfo:
    """An available plug-in: its kind and name, and the distribution that supplies it, "" if the program added it."""

    kind: PluginKind
    name: str
    distribution: str
    version: str


class CallHook(Protocol):
    """Calls a hook of one plug-in through the wrappers of all extensions, and returns its result unchecked.

    Raises the hook's VCError, and DriverContractError in the place of any other exception.
    """

    def __call__(self, hook: str, plugin: LoadedPlugin, **arguments: object) -> HookResult:
        """Call ``hook`` of ``plugin``."""


class BaseDriver:
    """Base of the typed faces. Each method calls one hook; any of them also raises the hook's own VCError."""

    kind: ClassVar[PluginKind]
    #: The field of ``PodConfig`` that holds the driver's options, for errors about them.
    options_field: ClassVar[str]

    def __init__(self, plugin: LoadedPlugin, call: CallHook) -> None:
        self._plugin = plugin
        self._call_hook = call

    def __str__(self) -> str:
        return str(self._plugin)

    @property
    def name(self) -> str:
        """The name by which users choose the driver."""
        return self._plugin.name

    @property
    def distribution(self) -> str:
        """The distribution that supplied the driver; empty for one that the program added."""
        return self._plugin.distribution

    @property
    def label(self) -> str:
        """The driver in errors about its options, such as "hypervisor qemu"."""
        return f"{self.kind.noun if self.kind is PluginKind.GUEST else self.kind} {self.name}"

    def options_class(self) -> type[DataclassInstance]:
        """Return the frozen dataclass whose fields are the driver's options; see ``vc_driver_options``.

        Raises DriverContractError for a result that is not one, or whose types cannot be read.
        """
        hook = "vc_driver_options"
        result = self._call(hook)
        if result.value is None:  # the driver does not implement this optional hook
            return NoOptions
        if not is_options_class(result.value):
            raise _wrong(hook, result, "a frozen dataclass, the class and not an object of it")
        cls = result.value
        try:
            option_types(cls)
        except Exception as error:  # a type is an expression of the driver, which may raise anything
            raise result.author.contract_error(
                f"declares options whose types cannot be read ({cls.__name__}: {one_line(error)})"
            ) from error
        return cls

    def config(self, options: Mapping[str, object]) -> object:
        """Return ``options`` as an object of :meth:`options_class`, which the other hooks are called with.

        Raises ConfigError for an unknown option or an invalid value, DriverContractError as :meth:`options_class`
        does, and in the place of any other exception that the class raises.
        """
        cls = self.options_class()
        try:
            return read_options(cls, options, self.label)
        except ConfigError as error:
            error.field = f"{self.options_field}.{error.field}" if error.field else self.options_field
            raise
        except VCError:
            raise
        except BaseException as error:
            if from_signal(error):
                raise
            raise self._plugin.contract_error(
                f"raised {one_line(error)} from {cls.__name__}, the class of its options; it may raise only ConfigError"
            ) from error

    def probe(self) -> list[str]:
        """Return one sentence for each condition that keeps the driver from working on this host.

        Raises DriverContractError for a result that is not a sequence of strings.
        """
        hook = "vc_driver_probe"
        result = self._call(hook)
        problems = result.value
        if problems is None:  # the driver does not implement this optional hook
            return []
        if (
            not isinstance(problems, Sequence)
            or isinstance(problems, str)
            or not all(isinstance(problem, str) for problem in problems)
        ):
            raise _wrong(hook, result, "a list of strings")
        return list(problems)

    def check_host(self, host: HostContext) -> list[HostCheck]:
        """Return what the driver finds on this host; see ``vc_driver_check``.

        Raises DriverContractError for a result that is not a sequence of HostChecks, or one that lacks a text.
        """
        hook = "vc_driver_check"
        result = self._call(hook, host=host)
        if result.value is None:  # the driver does not implement this optional hook
            return []
        checks = result.value
        if not isinstance(checks, Sequence) or not all(isinstance(one, HostCheck) for one in checks):
            raise _wrong(hook, result, "a list of vc_core.driver.HostCheck")
        for one in checks:
            texts = (one.name, one.found, one.meaning, one.remedy)
            mended = one.outcome == CheckOutcome.OK or one.remedy
            if not isinstance(one.outcome, CheckOutcome) or not all(isinstance(text, str) for text in texts):
                raise _wrong(hook, result, "checks with a CheckOutcome and texts")
            if not all(texts[:3]) or not mended:
                raise _wrong(hook, result, "checks with a name, what was found, what it means and how to mend it")
        return list(checks)

    def _call(self, hook: str, **arguments: object) -> HookResult:
        return self._call_hook(hook, self._plugin, **arguments)


def _wrong(hook: str, result: HookResult, wanted: str) -> DriverContractError:
    """Return the error for a result of the wrong type, which names the plug-in that made it."""
    where = f"its wrapper of {hook}" if result.author.kind is PluginKind.EXTENSION else hook
    return result.author.contract_error(f"returned {quoted(result.value)} from {where}, which must return {wanted}")


class HypervisorDriver(BaseDriver):
    """The driver of one kind of virtual machine."""

    kind = PluginKind.HYPERVISOR
    options_field = "hypervisor_config.options"

    def create(self, pod: PodContext, config: object, saved: Mapping[str, object] | None) -> Hypervisor:
        """Return the object that controls one pod's VM; see ``vc_hypervisor_create``.

        Raises ConfigError when the driver cannot serve the pod, DriverContractError for a result that is not a
        Hypervisor.
        """
        hook = "vc_hypervisor_create"
        result = self._call(hook, pod=pod, config=config, saved=saved)
        if not isinstance(result.value, Hypervisor):
            raise _wrong(hook, result, "a vc_core.driver.Hypervisor")
        return result.value

    def guest(self) -> str:
        """Return the name of the guest driver that builds what this hypervisor's VMs boot; see ``vc_hypervisor_guest``.

        Raises DriverContractError for a result that is not a string.
        """
        hook = "vc_hypervisor_guest"
        result = self._call(hook)
        if result.value is None:  # the driver does not implement this optional hook
            return DEFAULT_GUEST
        if not isinstance(result.value, str):
            raise _wrong(hook, result, "the name of a guest driver")
        return result.value


class AgentDriver(BaseDriver):
    """The driver of one kind of agent."""

    kind = PluginKind.AGENT
    options_field = "agent_config"

    def create(
        self, pod: PodContext, config: object, spawner: Spawner | None, saved: Mapping[str, object] | None
    ) -> Agent:
        """Return the object that talks to one pod's guest; see ``vc_agent_create``.

        Raises ConfigError when the driver cannot serve the pod, DriverContractError for a result that is not an Agent.
        """
        hook = "vc_agent_create"
        result = self._call(hook, pod=pod, config=config, spawner=spawner, saved=saved)
        if not isinstance(result.value, Agent):
            raise _wrong(hook, result, "a vc_core.driver.Agent")
        return result.value

    def spawner(self, config: object, installed: Sequence[str]) -> tuple[str, Mapping[str, object]]:
        """Return the name of the spawner driver that the driver's configuration has in ``spawner``, and its options.

        Without a name it is that of ``default_spawner``, if it is one of ``installed``. The name is "" if there is
        none. Raises DriverContractError when reading the configuration raises.
        """

        def read() -> tuple[str, Mapping[str, object]]:
            default = getattr(config, "default_spawner", "")
            name = getattr(config, "spawner", "") or (default if default in installed else "")
            return name, getattr(config, "spawner_options", {})

        return call(self._plugin, "its configuration", read)

    def guest(self, config: object) -> GuestPayload | None:
        """Return what the agent needs inside a built guest, None if it runs in none; see ``vc_agent_guest``.

        Raises GuestError when a file is missing, DriverContractError for a result that is neither.
        """
        hook = "vc_agent_guest"
        result = self._call(hook, config=config)
        if result.value is not None and not isinstance(result.value, GuestPayload):
            raise _wrong(hook, result, "a vc_core.driver.GuestPayload or None")
        return result.value


class SpawnerDriver(BaseDriver):
    """The driver of one kind of spawner."""

    kind = PluginKind.SPAWNER
    options_field = "agent_config.spawner_options"

    def create(self, config: object) -> Spawner:
        """Return the object that wraps commands; see ``vc_spawner_create``.

        Raises DriverContractError for a result that is not a Spawner.
        """
        hook = "vc_spawner_create"
        result = self._call(hook, config=config)
        if not isinstance(result.value, Spawner):
            raise _wrong(hook, result, "a vc_core.driver.Spawner")
        return result.value


class GuestDriver(BaseDriver):
    """The driver of one kind of guest builder."""

    kind = PluginKind.GUEST
    options_field = "hypervisor_config.guest_options"

    def create(self, config: object) -> GuestBuilder:
        """Return the object that builds guests; see ``vc_guest_create``.

        Raises DriverContractError for a result that is not a GuestBuilder.
        """
        hook = "vc_guest_create"
        result = self._call(hook, config=config)
        if not isinstance(result.value, GuestBuilder):
            raise _wrong(hook, result, "a vc_core.driver.GuestBuilder")
        return result.value


Driver = HypervisorDriver | AgentDriver | SpawnerDriver | GuestDriver

#: The face of each kind of driver.
FACES: dict[PluginKind, type[Driver]] = {
    face.kind: face for face in (HypervisorDriver, AgentDriver, SpawnerDriver, GuestDriver)
}
