"""The plug-in machinery holds every plug-in object to its specification (objects are added, nothing is installed)."""

from __future__ import annotations

import dataclasses
import json
import logging
import socket
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest

from vc_core.config.pod import HypervisorConfig, Resources
from vc_core.driver.agent import Agent
from vc_core.driver.context import PodContext
from vc_core.driver.guest import GuestBuilder, GuestPayload
from vc_core.driver.hooks import hookimpl
from vc_core.driver.hypervisor import Hypervisor
from vc_core.driver.kinds import PluginKind
from vc_core.driver.options import NoOptions
from vc_core.driver.spawner import Spawner
from vc_core.errors import (
    ConfigError,
    DriverConflictError,
    DriverContractError,
    DriverNotFoundError,
    StateError,
    error_from_wire,
)
from vc_core.plugins.registry import Plugins
from vc_core.supervisor import wire
from vc_core.supervisor.messages import Failure
from waiting import PATIENCE

HYPERVISOR, AGENT, SPAWNER, GUEST, EXTENSION = PluginKind

POD = PodContext("p1", "uuid", Path("/run/p1"), Path("/run/p1/share"), Resources(), HypervisorConfig())


def empty(interface: type) -> Any:
    """Return an object of an abstract base class with all its methods there and none of them working."""
    body = dict.fromkeys(getattr(interface, "__abstractmethods__"), None)  # noqa: B009 - mypy has no such attribute
    return type(f"Empty{interface.__name__}", (interface,), body)()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Colours:
    colour: Annotated[str, "colour of the VM"] = "red"

    def __post_init__(self) -> None:
        if self.colour == "bad":
            raise ValueError("bad day")


@dataclasses.dataclass
class NotFrozen:
    colour: str = "red"


@dataclasses.dataclass(frozen=True)
class Unreadable:
    colour: NoSuchType  # type: ignore[name-defined]  # noqa: F821


class GoodHypervisor:
    def __init__(self) -> None:
        self.made: Hypervisor = empty(Hypervisor)

    @hookimpl
    def vc_driver_options(self) -> object:
        return Colours

    @hookimpl
    def vc_hypervisor_create(self, pod: PodContext, config: object, saved: Mapping[str, object] | None) -> Hypervisor:
        return self.made


class GoodAgent:
    @hookimpl
    def vc_agent_create(self) -> Agent:  # takes fewer arguments than specified
        agent: Agent = empty(Agent)
        return agent


class GoodSpawner:
    @hookimpl
    def vc_spawner_create(self, config: object) -> Spawner:
        spawner: Spawner = empty(Spawner)
        return spawner


class GoodGuest:
    @hookimpl
    def vc_guest_create(self, config: object) -> GuestBuilder:
        builder: GuestBuilder = empty(GuestBuilder)
        return builder


def added(kind: PluginKind, plugin: object) -> Plugins:
    plugins = Plugins(bare=True)
    plugins.add_driver(kind, "x", plugin)
    return plugins


def refusal(kind: PluginKind, plugin: object) -> str:
    """Return the text with which a plug-in is refused, after making sure that nothing of it stays behind."""
    plugins = Plugins(bare=True)
    with pytest.raises(DriverContractError) as caught:
        plugins.add_driver(kind, "x", plugin)
    assert (caught.value.kind, caught.value.name) == (kind, "x")
    good = GoodHypervisor()
    plugins.add_driver(HYPERVISOR, "x", good)
    assert plugins.hypervisor("x").create(POD, {}, None) is good.made
    return str(caught.value)


def broken(kind: PluginKind, hook: str, returned: object) -> Plugins:
    """Return plug-ins with one driver ``x`` whose ``hook`` returns the given value."""
    good = {HYPERVISOR: GoodHypervisor, AGENT: GoodAgent, SPAWNER: GoodSpawner, GUEST: GoodGuest}[kind]
    return added(kind, type("Broken", (good,), {hook: hookimpl(lambda self: returned)})())


def test_each_kind_of_driver_makes_its_object() -> None:
    assert isinstance(added(HYPERVISOR, GoodHypervisor()).hypervisor("x").create(POD, {}, None), Hypervisor)
    assert isinstance(added(AGENT, GoodAgent()).agent("x").create(POD, {}, None, None), Agent)
    assert isinstance(added(SPAWNER, GoodSpawner()).spawner("x").create({}), Spawner)
    assert isinstance(added(GUEST, GoodGuest()).guest("x").create({}), GuestBuilder)


WRONG_RETURNS: list[tuple[PluginKind, str, object, Callable[[Plugins], object]]] = [
    (HYPERVISOR, "vc_driver_options", NotFrozen, lambda plugins: plugins.hypervisor("x").config({})),
    (HYPERVISOR, "vc_driver_options", Colours(), lambda plugins: plugins.hypervisor("x").config({})),
    (AGENT, "vc_driver_options", dict, lambda plugins: plugins.agent("x").config({})),
    (HYPERVISOR, "vc_hypervisor_create", None, lambda plugins: plugins.hypervisor("x").create(POD, {}, None)),
    (HYPERVISOR, "vc_hypervisor_create", "a VM", lambda plugins: plugins.hypervisor("x").create(POD, {}, None)),
    (HYPERVISOR, "vc_hypervisor_guest", 7, lambda plugins: plugins.hypervisor("x").guest()),
    (HYPERVISOR, "vc_driver_probe", "no /dev/kvm", lambda plugins: plugins.hypervisor("x").probe()),
    (HYPERVISOR, "vc_driver_probe", [1], lambda plugins: plugins.hypervisor("x").probe()),
    (AGENT, "vc_agent_create", empty(Hypervisor), lambda plugins: plugins.agent("x").create(POD, {}, None, None)),
    (AGENT, "vc_agent_guest", {"/init": "init"}, lambda plugins: plugins.agent("x").guest({})),
    (SPAWNER, "vc_spawner_create", ["nsenter"], lambda plugins: plugins.spawner("x").create({})),
    (GUEST, "vc_guest_create", Path("/boot"), lambda plugins: plugins.guest("x").create({})),
]


@pytest.mark.parametrize(("kind", "hook", "returned", "call"), WRONG_RETURNS)
def test_a_wrong_return_value_is_named_with_driver_and_hook(
    kind: PluginKind, hook: str, returned: object, call: Callable[[Plugins], object]
) -> None:
    with pytest.raises(DriverContractError) as caught:
        call(broken(kind, hook, returned))
    assert f"{kind} driver 'x'" in str(caught.value)
    assert hook in str(caught.value)
    assert repr(returned) in str(caught.value)


def test_a_probe_returns_the_problems_of_this_host() -> None:
    assert broken(HYPERVISOR, "vc_driver_probe", ("install qemu",)).hypervisor("x").probe() == ["install qemu"]


def test_a_driver_without_a_probe_is_usable() -> None:
    assert added(HYPERVISOR, GoodHypervisor()).hypervisor("x").probe() == []


def test_a_hypervisor_may_boot_the_guests_of_another_driver_than_debian() -> None:
    assert added(HYPERVISOR, GoodHypervisor()).hypervisor("x").guest() == "debian"
    assert broken(HYPERVISOR, "vc_hypervisor_guest", "toy").hypervisor("x").guest() == "toy"


def test_an_agent_may_need_nothing_in_the_guest() -> None:
    assert added(AGENT, GoodAgent()).agent("x").guest({}) is None


def test_an_agent_may_need_files_in_the_guest() -> None:
    payload = GuestPayload(files={"/init": "/usr/lib/init"})
    assert broken(AGENT, "vc_agent_guest", payload).agent("x").guest({}) is payload


@pytest.mark.parametrize("raised", [ValueError("bad day"), AssertionError("bad day"), SystemExit("bad day")])
def test_a_hook_that_raises_a_foreign_error_breaks_the_contract(raised: BaseException) -> None:
    class Raising(GoodHypervisor):
        @hookimpl
        def vc_driver_options(self) -> object:
            raise raised

    with pytest.raises(DriverContractError) as caught:
        added(HYPERVISOR, Raising()).hypervisor("x").config({})
    assert f"raised {type(raised).__name__}: bad day from vc_driver_options" in str(caught.value)
    assert caught.value.__cause__ is raised


def test_a_vc_error_passes_through_a_hook_unchanged() -> None:
    raised = ConfigError("option 'colour' is unknown")

    class Raising(GoodHypervisor):
        @hookimpl
        def vc_driver_options(self) -> object:
            raise raised

    with pytest.raises(ConfigError) as caught:
        added(HYPERVISOR, Raising()).hypervisor("x").config({})
    assert caught.value is raised


def test_a_driver_without_options_refuses_each_by_name() -> None:
    agent = added(AGENT, GoodAgent()).agent("x")
    assert agent.config({}) == NoOptions()
    with pytest.raises(ConfigError, match="agent x has no option 'colour'; it has none"):
        agent.config({"colour": "red"})


def test_a_class_of_options_that_raises_a_foreign_error_breaks_the_contract() -> None:
    with pytest.raises(DriverContractError, match="raised ValueError: bad day from Colours, the class of its options"):
        added(HYPERVISOR, GoodHypervisor()).hypervisor("x").config({"colour": "bad"})


def test_options_whose_types_cannot_be_read_break_the_contract() -> None:
    plugins = broken(HYPERVISOR, "vc_driver_options", Unreadable)
    with pytest.raises(DriverContractError, match=r"types cannot be read \(Unreadable: NameError: .*NoSuchType"):
        plugins.hypervisor("x").config({})


def test_an_async_hook_is_refused() -> None:
    class Async(GoodHypervisor):
        @hookimpl
        async def vc_driver_options(self) -> object:
            return Colours

    assert "implements vc_driver_options with async def" in refusal(HYPERVISOR, Async())


def test_a_misspelt_hook_is_refused() -> None:
    class Misspelt(GoodHypervisor):
        @hookimpl
        def vc_hypervisor_creat(self, pod: PodContext) -> Hypervisor:
            return self.made

    assert "unknown hook 'vc_hypervisor_creat'" in refusal(HYPERVISOR, Misspelt())


def test_a_hook_of_a_later_version_may_be_marked_optional() -> None:
    class FromTheFuture(GoodHypervisor):
        @hookimpl(optionalhook=True)
        def vc_hypervisor_migrate(self) -> None:
            pass

    assert added(HYPERVISOR, FromTheFuture()).hypervisor("x").config({}) == Colours()


def test_missing_hooks_are_named() -> None:
    text = refusal(AGENT, object())
    assert "does not implement vc_agent_create" in text
    assert "vc_agent_guest" not in text


def test_a_hook_of_another_kind_is_refused() -> None:
    class Both(GoodHypervisor, GoodSpawner):
        pass

    assert "implements vc_spawner_create, which is not a hook of a hypervisor driver" in refusal(HYPERVISOR, Both())


def test_an_argument_that_the_specification_does_not_have_is_refused() -> None:
    class Unknown(GoodHypervisor):
        @hookimpl
        def vc_hypervisor_create(self, pod: PodContext, settings: object, saved: Any) -> Hypervisor:
            return self.made

    assert "settings" in refusal(HYPERVISOR, Unknown())


def keyword_only(self: object, *, config: object) -> None: ...


def defaulted(self: object, save: object = None) -> None: ...  # meant is "saved"


def variadic(self: object, **arguments: object) -> None: ...


@pytest.mark.parametrize(
    ("create", "argument"), [(keyword_only, "config"), (defaulted, "save"), (variadic, "**arguments")]
)
def test_an_argument_that_pluggy_would_not_fill_in_is_refused(create: Callable[..., None], argument: str) -> None:
    plugin = type("Odd", (GoodHypervisor,), {"vc_hypervisor_create": hookimpl(create)})
    text = refusal(HYPERVISOR, plugin())
    assert argument in text
    assert "pluggy may never fill in" in text


@pytest.mark.parametrize("target", [GoodHypervisor, json, None])
def test_a_class_a_module_and_none_are_no_plugin_objects(target: object) -> None:
    assert "names a class without required arguments" in refusal(HYPERVISOR, target)


def test_a_plugin_that_compares_by_value_is_refused() -> None:
    @dataclasses.dataclass
    class ByValue(GoodHypervisor):
        made: Any = None

    assert "must compare by identity" in refusal(HYPERVISOR, ByValue())


def test_one_object_is_not_taken_for_two_plugins() -> None:
    plugins = added(HYPERVISOR, plugin := GoodHypervisor())
    with pytest.raises(DriverContractError, match="already registered"):
        plugins.add_driver(HYPERVISOR, "y", plugin)
    assert plugins.hypervisor("x").config({}) == Colours()


def test_a_driver_cannot_wrap_hooks() -> None:
    class Wrapping(GoodHypervisor):
        @hookimpl(wrapper=True)
        def vc_driver_probe(self) -> Generator[None, Any, Any]:
            return (yield)

    assert "wraps vc_driver_probe, which only an extension may" in refusal(HYPERVISOR, Wrapping())


def test_a_name_is_added_once() -> None:
    plugins = added(HYPERVISOR, GoodHypervisor())
    with pytest.raises(DriverConflictError, match="hypervisor driver 'x' added by the program is already loaded"):
        plugins.add_driver(HYPERVISOR, "x", GoodHypervisor())


def test_an_added_driver_takes_the_place_of_an_installed_one() -> None:
    plugins = Plugins(bare=True)
    assert [info.distribution for info in plugins.installed() if info.name == "mock"] == ["vc-hypervisor-mock"]
    plugins = Plugins(bare=True)
    plugins.add_driver(HYPERVISOR, "mock", good := GoodHypervisor())
    assert plugins.hypervisor("mock").create(POD, {}, None) is good.made
    assert plugins.names(HYPERVISOR).count("mock") == 1
    assert [info.distribution for info in plugins.installed() if info.name == "mock"] == [""]


def test_an_unknown_name_is_an_error_that_lists_the_installed_ones() -> None:
    with pytest.raises(DriverNotFoundError) as caught:
        added(HYPERVISOR, GoodHypervisor()).hypervisor("xen")
    assert "no hypervisor driver 'xen'" in str(caught.value)
    assert "x" in str(caught.value).partition("installed: ")[2].partition(")")[0].split(", ")
    assert str(caught.value).endswith("; correct the name, or install the distribution that offers it")


@pytest.mark.parametrize(
    ("kind", "name", "distribution"),
    [
        (GUEST, "debian", "vc-guest-debian"),
        (GUEST, "uml", "vc-hypervisor-uml"),
        (SPAWNER, "nsenter", "vc-spawner-nsenter"),
    ],
)
def test_a_missing_driver_of_this_project_is_an_error_that_names_its_distribution(
    kind: PluginKind, name: str, distribution: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.metadata.distributions", list)
    monkeypatch.setattr("vc_core.plugins.discovery._latest", None)
    plugins = added(HYPERVISOR, GoodHypervisor())
    with pytest.raises(DriverNotFoundError, match=f"'pip install {distribution}' installs it$"):
        {GUEST: plugins.guest, SPAWNER: plugins.spawner}[kind](name)


def test_without_any_driver_the_error_advises_to_install_the_default_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.distributions", list)
    monkeypatch.setattr("vc_core.plugins.discovery._latest", None)
    with pytest.raises(DriverNotFoundError, match=r"'qemu', nor any other driver; 'pip install virtcontainers'"):
        Plugins().hypervisor("qemu")


def test_an_error_of_a_driver_crosses_to_another_process_whole() -> None:
    with pytest.raises(DriverNotFoundError) as caught:
        Plugins().hypervisor("xen")
    copy = error_from_wire(json.loads(json.dumps(caught.value.to_wire())))
    assert isinstance(copy, DriverNotFoundError)
    assert (str(copy), copy.kind, copy.name) == (str(caught.value), "hypervisor", "xen")


def test_an_error_with_a_long_text_and_a_long_detail_fits_one_packet() -> None:
    class Long(StateError):
        def __str__(self) -> str:
            return 50_000 * "\udc80"  # each an escape of six characters

    for error in (StateError(300_000 * "x", state=300_000 * "y", wanted=["ready"]), Long("", state=300_000 * "y")):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            wire.send(ours, Failure.of(error))
            failure, _ = wire.receive(theirs, msgspec.json.Decoder(Failure).decode)
        assert failure is not None
        assert failure.message.endswith("... (295904 characters more)")
        assert failure.details["state"] is None
    assert str(StateError(300_000 * "x")) == 4096 * "x" + "... (295904 characters more)"


def test_the_chosen_driver_answers_and_no_other() -> None:
    plugins = Plugins(bare=True)
    first, second = GoodHypervisor(), GoodHypervisor()
    plugins.add_driver(HYPERVISOR, "first", first)
    plugins.add_driver(HYPERVISOR, "second", second)
    assert plugins.hypervisor("first").create(POD, {}, None) is first.made
    assert plugins.hypervisor("second").create(POD, {}, None) is second.made


def test_selection_survives_late_registration() -> None:
    plugins = Plugins(bare=True)
    first = GoodHypervisor()
    plugins.add_driver(HYPERVISOR, "first", first)
    driver = plugins.hypervisor("first")
    assert driver.create(POD, {}, None) is first.made
    plugins.add_driver(HYPERVISOR, "late", GoodHypervisor())
    assert driver.create(POD, {}, None) is first.made


class Recorder:
    """An extension that records the calls of its hooks."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []

    @hookimpl
    def vc_pod_transition(self, pod_id: str, old: str, new: str) -> None:
        self.calls.append((pod_id, old, new))

    @hookimpl
    def vc_container_transition(self, pod_id: str, container_id: str, old: str, new: str) -> None:
        self.calls.append((pod_id, container_id, old, new))


class Raiser:
    """An extension whose every hook raises."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    @hookimpl
    def vc_pod_transition(self) -> None:
        raise self.error


def test_extensions_are_notified_of_transitions() -> None:
    plugins = added(EXTENSION, recorder := Recorder())
    plugins.notify_pod_transition("p1", "ready", "running")
    plugins.notify_container_transition("p1", "c1", "running", "stopped")
    plugins.drain()
    assert recorder.calls == [("p1", "ready", "running"), ("p1", "c1", "running", "stopped")]


@pytest.mark.parametrize("error", [RuntimeError("no disk"), SystemExit(1), KeyboardInterrupt()])
def test_an_extension_that_raises_does_not_silence_the_others(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    plugins = Plugins(bare=True)
    before, after = Recorder(), Recorder()
    plugins.add_driver(EXTENSION, "before", before)
    plugins.add_driver(EXTENSION, "raising", Raiser(error))
    plugins.add_driver(EXTENSION, "after", after)
    with caplog.at_level(logging.ERROR):
        plugins.notify_pod_transition("p1", "ready", "running")
        plugins.drain()
    assert before.calls == after.calls == [("p1", "ready", "running")]
    assert "extension 'raising' added by the program raised from vc_pod_transition" in caplog.text


class Gate:
    """An extension that returns when it may."""

    def __init__(self) -> None:
        self.called, self.may = threading.Event(), threading.Event()
        self.on_call: Callable[[], None] = lambda: None

    @hookimpl
    def vc_pod_transition(self) -> None:
        self.on_call()
        self.called.set()
        self.may.wait()


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.may.set()
    Plugins(bare=True).drain()


def test_a_notification_does_not_wait_for_the_extensions(gate: Gate) -> None:
    plugins = added(EXTENSION, gate)
    plugins.add_driver(EXTENSION, "recorder", recorder := Recorder())
    for number in range(20):
        plugins.notify_pod_transition("p1", str(number), str(number + 1))
    assert gate.called.wait(PATIENCE)
    assert recorder.calls == []
    gate.may.set()
    plugins.drain()
    assert recorder.calls == [("p1", str(number), str(number + 1)) for number in range(20)]


def test_an_extension_that_hangs_is_disabled_and_the_others_get_every_notification(
    gate: Gate, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("vc_core.plugins.registry.EXTENSION_TIMEOUT", 0.05)
    gate.on_call = lambda: monkeypatch.setattr("vc_core.plugins.registry.EXTENSION_TIMEOUT", PATIENCE)  # of the other
    plugins = added(EXTENSION, gate)
    plugins.add_driver(EXTENSION, "recorder", recorder := Recorder())
    for state in ("running", "stopped"):
        plugins.notify_pod_transition("p1", "ready", state)
    plugins.drain(PATIENCE)
    assert [new for _, _, new in recorder.calls] == ["running", "stopped"]
    assert caplog.text.count("hook vc_pod_transition did not return within ") == 1


def test_waiting_for_notifications_has_an_end(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    plugins = added(EXTENSION, gate)
    for state in ("running", "stopped"):
        plugins.notify_pod_transition("p1", "ready", state)
    assert gate.called.wait(PATIENCE)
    plugins.drain(0.01)
    assert "1 notifications of extensions are not delivered after 0.01 s" in caplog.text


def test_notifications_that_pile_up_are_dropped_with_a_warning(
    gate: Gate, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("vc_core.plugins.notifications._PENDING_MAX", 2)
    plugins = added(EXTENSION, gate)
    plugins.notify_pod_transition("p1", "", "0")
    assert gate.called.wait(PATIENCE)
    for state in ("1", "2", "3"):
        plugins.notify_pod_transition("p1", "", state)
    assert "too slow: vc_pod_transition with {'pod_id': 'p1', 'old': '', 'new': '3'} is not delivered" in caplog.text


class Decorator:
    """An extension that hands out another object than the driver made."""

    def __init__(self, instead: Callable[[Any], Any]) -> None:
        self.instead = instead

    @hookimpl(wrapper=True)
    def vc_hypervisor_create(self, pod: PodContext) -> Generator[None, Hypervisor, Hypervisor]:
        made = yield
        instead: Hypervisor = self.instead(made)
        return instead


def test_an_extension_wraps_what_any_driver_makes() -> None:
    plugins = Plugins(bare=True)
    drivers = {name: GoodHypervisor() for name in ("a", "b")}
    wrapped = []

    def note(made: Hypervisor) -> Hypervisor:
        wrapped.append(made)
        return made

    plugins.add_driver(EXTENSION, "log", Decorator(note))
    for name, driver in drivers.items():
        plugins.add_driver(HYPERVISOR, name, driver)
        assert plugins.hypervisor(name).create(POD, {}, None) is driver.made
    assert wrapped == [drivers["a"].made, drivers["b"].made]


def test_an_extension_cannot_answer_for_a_driver() -> None:
    assert "implements vc_driver_options, which an extension may only wrap" in refusal(EXTENSION, GoodHypervisor())


def test_plugins_of_two_runtimes_share_nothing() -> None:
    added(HYPERVISOR, GoodHypervisor())
    with pytest.raises(DriverNotFoundError):
        Plugins().hypervisor("x")


def test_threads_that_ask_at_once_get_one_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    plugins = Plugins(bare=True)
    drivers: set[object] = set()
    gate = threading.Barrier(8)

    def ask() -> None:
        gate.wait()
        drivers.add(plugins.hypervisor("mock")._plugin.obj)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(drivers) == 1
