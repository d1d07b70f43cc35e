"""The part of a driver's contract that can be checked on any installed driver without a VM, a function each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import is_dataclass
from enum import StrEnum
from pathlib import Path

from vc_core.config.pod import PodConfig
from vc_core.config.values import quoted
from vc_core.driver.agent import Agent, AgentCapability
from vc_core.driver.context import PodContext
from vc_core.driver.devices import Channel, Device, SharedDirectory
from vc_core.driver.hypervisor import HypervisorCapability
from vc_core.driver.kinds import PluginKind
from vc_core.driver.options import list_options, plain
from vc_core.errors import ConfigError, GuestError, VCError
from vc_core.frozen import frozen
from vc_core.plugins.audit import record_side_effects
from vc_core.plugins.drivers import AgentDriver, Driver, GuestDriver, HypervisorDriver, SpawnerDriver
from vc_core.plugins.guard import from_signal
from vc_core.plugins.quoting import one_line


@frozen
class DriverUnderTest:
    """A driver to check, options that it accepts, and an empty directory for what it must not write."""

    driver: Driver
    options: Mapping[str, object]
    directory: Path

    def pod(self) -> PodContext:
        """Return a pod whose directories do not exist, as when a pod is created."""
        return PodContext.of(PodConfig(id="contract"), self.directory / "run")

    def create(self) -> object:
        """Return the object that the driver's create hook makes. Raises VCError."""
        driver = self.driver
        config = driver.config(self.options)
        match driver:
            case HypervisorDriver():
                return driver.create(self.pod(), config, None)
            case AgentDriver():
                return driver.create(self.pod(), config, None, None)
            case SpawnerDriver() | GuestDriver():
                return driver.create(config)


# The checks. Each yields one clause, whose subject is the driver, for each violation that it finds.


def probe_has_no_side_effects(tested: DriverUnderTest) -> Iterator[str]:
    """Check that vc_driver_probe returns sentences, and neither starts a process nor changes a file."""
    with record_side_effects() as events:
        tested.driver.probe()
    if events:
        yield f"does {', '.join(events)} in vc_driver_probe, which may only look at files"


def options_give_the_same_configuration_again(tested: DriverUnderTest) -> Iterator[str]:
    """Check that options give an equal configuration after JSON, and so do the configuration's fields as options."""
    driver = tested.driver
    config = driver.config(tested.options)
    try:
        stored = json.loads(json.dumps(dict(tested.options)))
    except TypeError as error:
        yield f"takes options that JSON cannot hold ({error}), so no pod could be stored"
        return
    if driver.config(stored) != config:
        yield "makes another configuration from the same options (vc_driver_options); let it compare by value"
    if is_dataclass(config) and not isinstance(config, type):
        fields = plain(config)
        assert isinstance(fields, dict)
        try:
            again = plain(driver.config(json.loads(json.dumps(fields))))
        except ConfigError as error:
            yield f"refuses its own configuration's fields as options (vc_driver_options): {error}"
            return
        assert isinstance(again, dict)
        for name, value in fields.items():
            if again[name] != value:
                yield (
                    f"makes another configuration from its configuration's fields (vc_driver_options): option {name} "
                    f"is {quoted(value)} and becomes {quoted(again[name])}"
                )


def options_are_described(tested: DriverUnderTest) -> Iterator[str]:
    """Check that each option has a description."""
    for option in list_options(tested.driver.options_class()):
        if not option.description:
            yield f'has no description of option {option.name}; declare it as Annotated[type, "text"]'


def create_has_no_side_effects(tested: DriverUnderTest) -> Iterator[str]:
    """Check that the create hook does no I/O, because it is also called to validate a pod."""
    kind = tested.driver.kind
    with record_side_effects() as events, suppress(ConfigError):  # such as for a program that is not installed
        tested.create()
    events += [f"write {path}" for path in tested.directory.rglob("*")]
    if events:
        yield f"does {', '.join(events)} in vc_{kind}_create; leave that to the object's methods"


def every_method_is_written(tested: DriverUnderTest) -> Iterator[str]:
    """Check that no method that the core calls raises NotImplementedError, as the generated ones do."""
    try:
        made = type(tested.create())
    except ConfigError:
        return
    abstract = next(names for base in made.__mro__ if (names := getattr(base, "__abstractmethods__", None)))
    for name in sorted(abstract):
        member = getattr(made, name)
        code = getattr(getattr(member, "fget", member), "__code__", None)
        if code is not None and "NotImplementedError" in code.co_names:
            # ``virtc new-driver`` writes the message as "NAME: what the method does".
            messages = [text for text in code.co_consts if isinstance(text, str) and text.startswith(f"{name}: ")]
            yield f"lacks {made.__name__}.{messages[0] if messages else name}"


def capabilities_are_constant(tested: DriverUnderTest) -> Iterator[str]:
    """Check that capabilities are a frozenset of the core's enumeration, equal for two objects."""
    enumerations: dict[PluginKind, type[StrEnum]] = {
        PluginKind.HYPERVISOR: HypervisorCapability,
        PluginKind.AGENT: AgentCapability,
    }
    capability = enumerations.get(tested.driver.kind)
    if capability is None:
        return
    try:
        one, two = (getattr(tested.create(), "capabilities", None) for _ in range(2))
    except ConfigError:
        return
    if not isinstance(one, frozenset) or not all(isinstance(item, capability) for item in one):
        yield f"has capabilities {one!r}; return a frozenset of {capability.__name__}"
    elif one != two:
        yield "has other capabilities for each object; return the same"


def devices_and_guest_files_are_valid(tested: DriverUnderTest) -> Iterator[str]:
    """Check that an agent lists its devices before there is a VM, and that the files for its guest exist."""
    if not isinstance(tested.driver, AgentDriver):
        return
    try:
        agent = tested.create()
    except ConfigError:
        return
    assert isinstance(agent, Agent)
    with record_side_effects() as events:
        devices = list(agent.devices())
    if events:
        yield f"does {', '.join(events)} in devices(), which may only return them"
    if wrong := [device for device in devices if not isinstance(device, Device)]:
        yield f"needs {wrong[0]!r}, which is not a device of vc_core.driver.devices"
    names = [device.id for device in devices if isinstance(device, Channel)]
    names += [device.tag for device in devices if isinstance(device, SharedDirectory)]
    if double := {name for name in names if names.count(name) > 1}:
        yield f"gives two devices the name {min(double)!r}"
    try:
        payload = tested.driver.guest(tested.driver.config(tested.options))
    except GuestError:
        return
    for path, file in (payload.files if payload else {}).items():
        if not Path(file).is_file():
            yield f"needs {file!r} as {path} in its guest (vc_agent_guest), which is not a file; raise GuestError"
    if payload and "/init" not in payload.files:
        yield "has no /init among the files for its guest (vc_agent_guest), which the kernel starts"


Check = Callable[[DriverUnderTest], Iterator[str]]

#: All checks, in the order in which they run.
CHECKS: tuple[Check, ...] = (
    probe_has_no_side_effects,
    options_give_the_same_configuration_again,
    options_are_described,
    create_has_no_side_effects,
    every_method_is_written,
    capabilities_are_constant,
    devices_and_guest_files_are_valid,
)


#: Those that need no configuration of the driver.
CHECKS_WITHOUT_OPTIONS: tuple[Check, ...] = (probe_has_no_side_effects, options_are_described)


def possible_checks(tested: DriverUnderTest) -> tuple[Check, ...]:
    """Return the checks that the given options allow: without those that are required, few.

    Called for installed drivers, for whose required options the core cannot choose values. Raises VCError.
    """
    declared = list_options(tested.driver.options_class())
    missing = any(option.required and option.name not in tested.options for option in declared)
    return CHECKS_WITHOUT_OPTIONS if missing else CHECKS


def run_check(check: Check, tested: DriverUnderTest) -> list[str]:
    """Return one sentence for each violation that ``check`` finds, or for an exception that the driver raised.

    Called by ``virtc drivers`` for installed drivers and by ``vc_core.testing.PluginContract`` for one in development.
    """
    try:
        return [f"{tested.driver} {clause}" for clause in check(tested)]
    except VCError as error:
        return [str(error)]
    except NotImplementedError as error:
        return [f"{tested.driver} lacks {one_line(error).partition(': ')[2]}"]
    except BaseException as error:
        if from_signal(error):
            raise
        return [f"{tested.driver} raises {one_line(error)}; a driver raises only VCErrors"]
