"""The part of a driver's contract that can be looked at cheaply, without a VM, on any installed driver.

``virtc drivers`` examines each driver in a process of its own (:func:`examine_installed`), so that one that hangs,
exits or crashes is a line in the table and nothing more. ``vc_core.testing.PluginContract`` holds a driver under
development to the same promises, one test for each of :data:`PROMISES`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, is_dataclass
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Any

from vc_core import assembly
from vc_core.agent import Agent, AgentCapability
from vc_core.config import PodConfig
from vc_core.context import PodContext
from vc_core.devices import Channel, Device, SharedDirectory
from vc_core.errors import ConfigError, GuestError, VCError
from vc_core.hypervisor import HypervisorCapability
from vc_core.plugins import (
    AgentDriver,
    DriverInfo,
    GuestDriver,
    HypervisorDriver,
    PluginKind,
    Plugins,
    SpawnerDriver,
)

#: Seconds for the examination of one driver; a good one takes a fraction of a second, most of it Python's own start.
DEADLINE = 10.0

Driver = HypervisorDriver | AgentDriver | SpawnerDriver | GuestDriver

#: A name that no driver uses for an option.
UNKNOWN_OPTION = "no-such-option"

#: Audit events (docs.python.org, "Audit events table") of what a hook must not do, by their beginnings.
_FORBIDDEN = (
    *("subprocess.", "socket.", "os.posix_spawn", "os.fork", "os.exec", "os.system", "os.kill"),
    *("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown"),
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found about one plug-in, in sentences.

    ``problems``: what keeps it from working on this host. ``faults``: how it breaks its contract, on any host. One
    that cannot be loaded or looked at has a sentence in both.
    """

    kind: str
    name: str
    distribution: str
    version: str
    problems: tuple[str, ...]
    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Subject:
    """A driver that is looked at, with options that it accepts and a directory that is empty."""

    driver: Driver
    options: Mapping[str, object]
    directory: Path

    def pod(self) -> PodContext:
        """Return a pod none of whose directories exists, as at the creation of a pod."""
        return assembly.context(PodConfig(id="contract"), self.directory / "run")

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


# What hooks do behind the core's back.

_heard: list[str] | None = None
_hearing = False


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _heard is None:
        return
    writes = event == "open" and len(arguments) == 3 and bool((arguments[2] or 0) & _WRITING)
    if (writes or event.startswith(_FORBIDDEN)) and not _importing():
        text = " ".join([event, *(str(argument)[:100] for argument in arguments[:1])])
        if text not in _heard:
            _heard.append(text)


def _importing() -> bool:
    """Tell whether this happens because a module is imported, which some do late and which may do anything."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


@contextmanager
def heard() -> Iterator[list[str]]:
    """Give a list that fills with what the block does beyond computing: processes, sockets, changes of files."""
    global _heard, _hearing
    if not _hearing:
        sys.addaudithook(_hear)  # for good: Python has no way to take one out
        _hearing = True
    events: list[str] = []
    _heard = events
    try:
        yield events
    finally:
        _heard = None


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
        yield f"needs {wrong[0]!r}, which is no device of vc_core.devices"
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


# Each in a process of its own.


def examine_installed(
    names: tuple[str, ...] = (), *, promises: bool = False, deadline: float = DEADLINE
) -> list[Examination]:
    """Return what is wrong with each installed plug-in, of these names only if any are given.

    Called by ``virtc drivers``; ``promises`` says whether to hold drivers to all of :data:`PROMISES` besides loading
    and probing them. Each is examined in a process of its own, for ``deadline`` seconds at most.
    """
    found = [one for one in Plugins().installed() if not names or one.name in names]
    with ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 1)) as pool:
        return list(pool.map(lambda one: _examine_elsewhere(one, promises, deadline), found))


def _examine_elsewhere(one: DriverInfo, promises: bool, deadline: float) -> Examination:
    command = [sys.executable, "-P", "-m", "vc_core.checks", str(one.kind), one.name, *(["--promises"] * promises)]
    late = False
    # A group of its own, so that what a driver starts goes with it.
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, process_group=0
    ) as process:
        try:
            said, _ = process.communicate(timeout=deadline)
        except subprocess.TimeoutExpired as error:
            late, said = True, error.output or b""
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    lines = said.decode(errors="replace").splitlines()
    try:
        found = json.loads(lines[-1])
        problems, faults = tuple(found["problems"]), tuple(found["faults"])
    except (IndexError, ValueError, TypeError):  # it got no further than the last step that it named
        step = lines[-1] if lines else "starting"
        how = f"hangs ({deadline:g} s)" if late else "ends the process"
        plugin = f"{one.kind.noun} {one.name!r} of {one.distribution} {one.version}"
        problems = faults = (f"{plugin} {how} in this step: {step}; repair or uninstall it",)
    return Examination(one.kind, one.name, one.distribution, one.version, problems, faults)


def _examine(kind: PluginKind, name: str, promises: bool, tell: Callable[[str], None]) -> dict[str, list[str]]:
    """Examine a plug-in in this process; ``tell`` is called with what is about to be done."""
    plugins = Plugins()
    problems: list[str] = []
    faults: list[str] = []
    tell("loading it")
    try:
        if kind is PluginKind.EXTENSION:
            plugins.extension(name)
            return {"problems": problems, "faults": faults}
        subject_driver = driver(plugins, kind, name)
        tell("vc_driver_probe")
        problems = subject_driver.probe()
    except VCError as error:
        return {"problems": [str(error)], "faults": [str(error)]}
    with tempfile.TemporaryDirectory(prefix="vc-check-") as directory:
        subject = Subject(subject_driver, {}, Path(directory))
        for promise in PROMISES if promises else ():
            tell(f"{promise.__name__.replace('_', ' ')}")
            faults += keeps(promise, subject)
    return {"problems": problems, "faults": faults}


def main() -> None:
    """Examine one plug-in, of the kind and name in the arguments, and print what was found as one line of JSON."""
    ours = os.dup(1)
    os.dup2(2, 1)  # what a driver prints is not for our reader
    with os.fdopen(ours, "w") as out:
        kind, name, *more = sys.argv[1:]
        found = _examine(PluginKind(kind), name, bool(more), lambda step: print(step, file=out, flush=True))
        print(json.dumps(found), file=out, flush=True)


if __name__ == "__main__":
    main()
