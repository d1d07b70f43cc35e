"""The part of a driver's contract that can be checked without a VM, one function for each promise."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, is_dataclass
from enum import StrEnum
from pathlib import Path

from vc_core.config.pod import PodConfig
from vc_core.driver.agent import Agent, AgentCapability
from vc_core.driver.context import PodContext
from vc_core.driver.devices import Channel, Device, SharedDirectory
from vc_core.driver.hypervisor import HypervisorCapability
from vc_core.driver.kinds import PluginKind
from vc_core.errors import ConfigError, GuestError, VCError
from vc_core.plugins.audit import heard
from vc_core.plugins.drivers import AgentDriver, GuestDriver, HypervisorDriver, SpawnerDriver
from vc_core.plugins.registry import Plugins

Driver = HypervisorDriver | AgentDriver | SpawnerDriver | GuestDriver

#: A name that no driver uses for an option.
UNKNOWN_OPTION = "no-such-option"


@dataclass(frozen=True, slots=True)
class Subject:
    """A driver that is looked at, with options that it accepts and a directory that is empty."""

    driver: Driver
    options: Mapping[str, object]
    directory: Path

    def pod(self) -> PodContext:
        """Return a pod none of whose directories exists, as at the creation of a pod."""
        return PodContext.of(PodConfig(id="contract"), self.directory / "run")

    def create(self) -> object:
        """Return what the driver's create hook makes. Raises VCError."""
        driver = self.driver
        config = driver.config(self.options)
        match driver:
            case HypervisorDriver():
                return driver.create(self.pod(), config, None)
            case AgentDriver():
                return driver.create(self.pod(), config, None, None)
            case SpawnerDriver() | GuestDriver():
                return driver.create(config)


# The promises. Each function yields one clause for each way in which the driver breaks the promise.


def answers_whether_it_works_here(subject: Subject) -> Iterator[str]:
    """Hold it to: vc_driver_probe returns sentences, starts nothing and changes nothing."""
    with heard() as events:
        subject.driver.probe()
    if events:
        yield f"does {', '.join(events)} in vc_driver_probe, which only looks at files"


def options_give_the_same_configuration_again(subject: Subject) -> Iterator[str]:
    """Hold it to: options give an equal configuration after JSON, and a configuration's own fields do so as options."""
    driver, kind = subject.driver, subject.driver.kind
    config = driver.config(subject.options)
    try:
        stored = json.loads(json.dumps(dict(subject.options)))
    except TypeError as error:
        yield f"takes options that JSON cannot hold ({error}), so no pod could be stored"
        return
    if driver.config(stored) != config:
        yield f"makes another configuration from the same options (vc_{kind}_config); let it compare by value"
    if is_dataclass(config) and not isinstance(config, type):
        again = json.loads(json.dumps(asdict(config), default=str))
        try:
            if driver.config(again) != config:
                yield f"makes another configuration from what is in its configuration (vc_{kind}_config)"
        except ConfigError as error:
            yield f"refuses what is in its own configuration (vc_{kind}_config): {error}"


def unknown_options_are_refused_by_name(subject: Subject) -> Iterator[str]:
    """Hold it to: a misspelt option is a ConfigError that names it."""
    kind = subject.driver.kind
    try:
        subject.driver.config({**subject.options, UNKNOWN_OPTION: 1})
    except ConfigError as error:
        if UNKNOWN_OPTION not in str(error):
            yield f"refuses option {UNKNOWN_OPTION!r} without naming it (vc_{kind}_config): {error}"
    else:
        yield f"accepts option {UNKNOWN_OPTION!r} (vc_{kind}_config), so misspelt options would pass; raise ConfigError"


def making_objects_does_nothing_else(subject: Subject) -> Iterator[str]:
    """Hold it to: the create hook does no I/O, for it is called when a pod is only being looked at."""
    kind = subject.driver.kind
    with heard() as events, suppress(ConfigError):  # such as for a program that is not installed
        subject.create()
    events += [f"write {path}" for path in subject.directory.rglob("*")]
    if events:
        yield f"does {', '.join(events)} in vc_{kind}_create; leave that to the object's methods"


def says_what_it_can_do(subject: Subject) -> Iterator[str]:
    """Hold it to: capabilities are a frozen set of the core's own, and the same for two objects."""
    kinds: dict[PluginKind, type[StrEnum]] = {
        PluginKind.HYPERVISOR: HypervisorCapability,
        PluginKind.AGENT: AgentCapability,
    }
    capability = kinds.get(subject.driver.kind)
    if capability is None:
        return
    try:
        one, two = (getattr(subject.create(), "capabilities", None) for _ in range(2))
    except ConfigError:
        return
    if not isinstance(one, frozenset) or not all(isinstance(item, capability) for item in one):
        yield f"has capabilities {one!r}; return a frozenset of {capability.__name__}"
    elif one != two:
        yield "says something else of its capabilities each time"


def names_the_devices_it_needs(subject: Subject) -> Iterator[str]:
    """Hold it to: an agent's devices are known before there is a VM, and the files for its guest are there."""
    if not isinstance(subject.driver, AgentDriver):
        return
    try:
        agent = subject.create()
    except ConfigError:
        return
    assert isinstance(agent, Agent)
    with heard() as events:
        devices = list(agent.devices())
    if events:
        yield f"does {', '.join(events)} in devices(), which only names them"
    if wrong := [device for device in devices if not isinstance(device, Device)]:
        yield f"needs {wrong[0]!r}, which is no device of vc_core.driver.devices"
    names = [device.id for device in devices if isinstance(device, Channel)]
    names += [device.tag for device in devices if isinstance(device, SharedDirectory)]
    if double := {name for name in names if names.count(name) > 1}:
        yield f"gives two devices the name {min(double)!r}"
    try:
        payload = subject.driver.guest(subject.driver.config(subject.options))
    except GuestError:
        return
    for path, file in (payload.files if payload else {}).items():
        if not Path(file).is_file():
            yield f"needs {file!r} as {path} in its guest (vc_agent_guest), which is no file; raise GuestError"
    if payload and "/init" not in payload.files:
        yield "has no /init among the files for its guest (vc_agent_guest), which the kernel starts"


def has_every_method_written(subject: Subject) -> Iterator[str]:
    """Hold it to: no method that the core calls raises NotImplementedError, as those of a skeleton do."""
    try:
        made = type(subject.create())
    except ConfigError:
        return
    wanted = next(names for base in made.__mro__ if (names := getattr(base, "__abstractmethods__", None)))
    for name in sorted(wanted):
        member = getattr(made, name)
        code = getattr(getattr(member, "fget", member), "__code__", None)
        if code is not None and "NotImplementedError" in code.co_names:
            said = [text for text in code.co_consts if isinstance(text, str) and text.startswith(f"{name}: ")]
            yield f"lacks {made.__name__}.{said[0] if said else name}"


Promise = Callable[[Subject], Iterator[str]]

PROMISES: tuple[Promise, ...] = (
    answers_whether_it_works_here,
    options_give_the_same_configuration_again,
    unknown_options_are_refused_by_name,
    making_objects_does_nothing_else,
    has_every_method_written,
    says_what_it_can_do,
    names_the_devices_it_needs,
)


def keeps(promise: Promise, subject: Subject) -> list[str]:
    """Return how a driver breaks a promise, a sentence each. Any VCError of the driver's is one way."""
    try:
        return [f"{subject.driver} {clause}" for clause in promise(subject)]
    except VCError as error:
        return [str(error)]


def driver(plugins: Plugins, kind: PluginKind, name: str) -> Driver:
    """Return the driver of a kind by its name. Raises DriverError."""
    faces: dict[PluginKind, Callable[[str], Driver]] = {
        PluginKind.HYPERVISOR: plugins.hypervisor,
        PluginKind.AGENT: plugins.agent,
        PluginKind.SPAWNER: plugins.spawner,
        PluginKind.GUEST: plugins.guest,
    }
    return faces[kind](name)
