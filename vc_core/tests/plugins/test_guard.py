"""Between the core and the objects of plug-ins: whatever these raise or return wrongly, the error names the plug-in."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from vc_core.driver import Agent, GuestBuilder, Hypervisor, HypervisorCapability, Spawner, VMExit
from vc_core.driver.kinds import PluginKind
from vc_core.errors import DriverContractError, StateError, VCError, VMStartError
from vc_core.plugins import running_call
from vc_core.plugins.guard import INTERFACES, SAVED_MAX, call, guard
from vc_core.plugins.loaded import LoadedPlugin
from vc_hypervisor_mock.hypervisor import MockHypervisor

PLUGIN = LoadedPlugin(PluginKind.HYPERVISOR, "toy", "vc-hypervisor-toy", "1.2", object())
TOY = "hypervisor driver 'toy' of vc-hypervisor-toy 1.2"


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Bare(BaseException):
    pass


class Half(StateError):
    """An error that lacks what the constructor of its base class sets."""

    def __init__(self) -> None:
        Exception.__init__(self, "half made")


#: What a driver may raise by mistake, and what the error quotes.
RAISED: list[tuple[BaseException, str]] = [
    (RuntimeError("bad day"), "RuntimeError: bad day"),
    (AttributeError("no part"), "AttributeError: no part"),
    (SystemExit(3), "SystemExit: 3"),
    (KeyboardInterrupt(), "KeyboardInterrupt"),
    (GeneratorExit(), "GeneratorExit"),
    (asyncio.CancelledError(), "CancelledError"),
    (TimeoutError(), "TimeoutError"),
    (Bare("x"), "Bare: x"),
    (Mute(), "Mute: its text cannot be had"),
    (ExceptionGroup("two", [VMStartError("no VM"), OSError("no file")]), "of VMStartError: no VM, OSError: no file"),
]


def raising(error: BaseException) -> Hypervisor:
    """Return a guarded hypervisor whose property, method and coroutine raise an error."""

    class Raising(MockHypervisor):
        @property
        def capabilities(self) -> frozenset[HypervisorCapability]:
            raise error

        def save(self) -> Mapping[str, object]:
            raise error

        async def start(self, timeout: float) -> None:
            await asyncio.sleep(0)
            raise error

        def stop(self, timeout: float) -> Awaitable[None]:  # type: ignore[override] # raises before there is one
            raise error

    return guard(PLUGIN, Raising.__new__(Raising))


CALLS: dict[str, Callable[[Hypervisor], object]] = {
    "capabilities": lambda made: made.capabilities,
    "save": lambda made: made.save(),
    "start": lambda made: asyncio.run(started(made)),
    "stop": lambda made: asyncio.run(stopped(made)),
}


async def started(made: Hypervisor) -> None:
    await made.start(1)


async def stopped(made: Hypervisor) -> None:
    await made.stop(1)


@pytest.mark.parametrize("method", CALLS)
@pytest.mark.parametrize(("error", "quoted"), RAISED, ids=lambda one: one if isinstance(one, str) else "")
def test_an_exception_of_any_class_names_driver_distribution_and_method(
    error: BaseException, quoted: str, method: str
) -> None:
    with pytest.raises(DriverContractError) as caught:
        CALLS[method](raising(error))
    assert str(caught.value).startswith(f"{TOY} raised ")
    assert f"{quoted}" in str(caught.value)
    assert f" from {method};" in str(caught.value)
    assert caught.value.__cause__ is error
    assert (caught.value.kind, caught.value.name) == ("hypervisor", "toy")


@pytest.mark.parametrize("method", CALLS)
def test_an_error_of_the_project_passes_as_it_is(method: str) -> None:
    error = VMStartError("no VM")
    with pytest.raises(VMStartError) as caught:
        CALLS[method](raising(error))
    assert caught.value is error


@pytest.mark.parametrize("method", CALLS)
@pytest.mark.parametrize("text", ["", " \n"])
def test_an_error_without_a_text_names_driver_distribution_and_method(method: str, text: str) -> None:
    with pytest.raises(DriverContractError) as caught:
        CALLS[method](raising(VMStartError(text)))
    assert str(caught.value) == f"{TOY} raised VMStartError from {method} without a text, which says what is wrong"


@pytest.mark.parametrize("method", CALLS)
def test_a_long_text_of_any_exception_is_shortened_and_steers_no_terminal(method: str) -> None:
    with pytest.raises(DriverContractError) as caught:
        CALLS[method](raising(RuntimeError("\x1b[2J" + 10_000 * "x")))
    assert str(caught.value).startswith(f"{TOY} raised RuntimeError: \\x1b[2Jxxx")
    assert f"xxx... (8004 characters more) from {method};" in str(caught.value)


def test_an_error_whose_class_makes_a_text_that_is_too_long_names_the_driver() -> None:
    class Long(VMStartError):
        def __str__(self) -> str:
            return 300_000 * "x"

    with pytest.raises(DriverContractError, match=f"{TOY} raised Long: x*... .298000 characters more. from save"):
        raising(Long("short")).save()


def test_an_error_that_cannot_be_sent_names_the_driver() -> None:
    with pytest.raises(DriverContractError, match=rf"{TOY} raised Half: half made from save"):
        raising(Half()).save()


def test_a_cancellation_of_the_task_passes() -> None:
    class Waiting(MockHypervisor):
        async def start(self, timeout: float) -> None:
            await asyncio.Event().wait()

    async def cancel() -> bool:
        task = asyncio.create_task(started(guard(PLUGIN, Waiting.__new__(Waiting))))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        return task.cancelled()

    assert asyncio.run(cancel())


@pytest.mark.parametrize("handler", ["default", "own"])
def test_an_exception_of_the_handler_of_a_signal_passes(handler: str) -> None:
    def terminate(signum: int, frame: object) -> None:
        raise SystemExit(128 + signum)

    def interrupted() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(10_000_000):  # the handler runs between two instructions
            pass

    former = signal.signal(signal.SIGINT, signal.default_int_handler if handler == "default" else terminate)
    try:
        with pytest.raises(KeyboardInterrupt if handler == "default" else SystemExit):
            call(PLUGIN, "a hook", interrupted)
    finally:
        signal.signal(signal.SIGINT, former)


@pytest.mark.parametrize("interface", INTERFACES)
def test_every_member_of_an_interface_is_that_of_the_plugin_s_object(interface: type) -> None:
    called: list[str] = []

    def stand_in(name: str, member: Any) -> object:
        def note(self: object, *arguments: object) -> None:
            called.append(name)
            raise VCError(name)

        async def note_later(self: object, *arguments: object) -> None:
            note(self)

        return (
            property(note) if isinstance(member, property) else [note, note_later][inspect.iscoroutinefunction(member)]
        )

    names = [name for name in dir(interface) if not name.startswith("_")]
    members = {name: stand_in(name, inspect.getattr_static(interface, name)) for name in names}
    made = guard(PLUGIN, type("Noted", (interface,), members)())
    assert isinstance(made, interface)
    assert type(made).__name__ == "Noted"
    for name in names:
        with pytest.raises(VCError, match=name):
            use(made, name)
    assert called == names


def use(made: object, name: str) -> None:
    """Read a property, or call a method with as many arguments as it takes."""
    member = getattr(made, name)
    result = member(*[None] * (len(inspect.signature(member).parameters)))
    asyncio.run(awaited(result))


async def awaited(result: Awaitable[object]) -> object:
    return await result


def returning(method: str, value: object) -> Hypervisor:
    async def later(self: object, *arguments: object) -> object:
        return value

    is_async = inspect.iscoroutinefunction(getattr(Hypervisor, method))
    members = {method: later if is_async else lambda self, *arguments: value}
    made: Hypervisor = object.__new__(type("Returning", (MockHypervisor,), members))
    return guard(PLUGIN, made)


@pytest.mark.parametrize(
    ("saved", "problem"),
    [
        ("nonsense", "returned 'nonsense' from save, which must return Mapping"),
        (None, "returned None from save, which must return Mapping"),
        ({1: "one"}, "it has the key 1, which is not a string in UTF-8"),
        ({"a": {"b": [1, float("nan")]}}, "it['a']['b'][1] is nan, which JSON does not have"),
        ({"a": {1, 2}}, "it['a'] is {1, 2}, which is not of a type of JSON"),
        ({"a": b"bytes"}, "it['a'] is b'bytes', which is not of a type of JSON"),
        ({"a": 2**64}, "it['a'] is 18446744073709551616, which needs more than 64 bits"),
        ({"a": "\udc80"}, "it['a'] is '\\udc80', which is not UTF-8"),
        ({"a": "x" * SAVED_MAX}, f"bytes of JSON; {SAVED_MAX} at most"),
    ],
)
def test_what_the_record_could_not_hold_is_refused_when_it_is_saved(saved: object, problem: str) -> None:
    with pytest.raises(DriverContractError) as caught:
        returning("save", saved).save()
    assert str(caught.value).startswith(TOY)
    assert problem in str(caught.value)


def test_what_nests_too_deeply_is_refused_when_it_is_saved() -> None:
    saved: dict[str, object] = {}
    saved["self"] = saved
    with pytest.raises(DriverContractError, match="from save what no record can hold: it is nested too deeply"):
        returning("save", saved).save()


def test_what_the_record_can_hold_is_saved_as_it_is() -> None:
    saved = {"pid": 7, "channels": ("a", "b"), "deep": {"on": True, "none": None, "ratio": 0.5}}
    assert returning("save", saved).save() == saved


def test_a_result_of_the_wrong_type_names_driver_and_method() -> None:
    with pytest.raises(DriverContractError, match=rf"{TOY} returned 7 from wait, which must return VMExit"):
        asyncio.run(awaited(returning("wait", 7).wait()))
    with pytest.raises(DriverContractError, match="from identity, which must return ProcessIdentity or None"):
        returning("identity", 7).identity()
    assert asyncio.run(awaited(returning("wait", VMExit(True, "")).wait())) == VMExit(True, "")
    assert returning("identity", None).identity() is None


def test_def_and_async_def_are_not_confused() -> None:
    class Confused(MockHypervisor):
        def start(self, timeout: float) -> None:  # type: ignore[override] # the mistake
            pass

        async def save(self) -> Mapping[str, object]:  # type: ignore[override] # the mistake
            return {}

    made = guard(PLUGIN, Confused.__new__(Confused))
    with pytest.raises(DriverContractError, match=rf"{TOY} has a def start; the interface has an async def"):
        asyncio.run(started(made))
    with pytest.raises(DriverContractError, match=rf"{TOY} has an async def save; the interface has a def"):
        _ = made.save()


def test_what_is_no_object_of_an_interface_is_not_guarded() -> None:
    value = object()
    assert guard(PLUGIN, value) is value
    assert {Hypervisor, Agent, Spawner, GuestBuilder} == set(INTERFACES)


def test_only_the_time_in_which_a_coroutine_s_own_code_is_executed_is_recorded(tmp_path: Path) -> None:
    seen: list[str] = []

    def look() -> None:
        seen.append((tmp_path / running_call.FILE_NAME).read_text(encoding="utf-8").strip())

    class Noting(MockHypervisor):
        async def start(self, timeout: float) -> None:
            look()
            waits.set()
            await goes_on.wait()
            look()

    waits, goes_on = asyncio.Event(), asyncio.Event()

    async def watch() -> None:
        task = asyncio.create_task(started(guard(PLUGIN, Noting.__new__(Noting))))
        await waits.wait()
        look()
        goes_on.set()
        await task
        look()

    with running_call.record_in(tmp_path):
        asyncio.run(watch())
    assert seen == [f"{TOY} executed start", "", f"{TOY} executed start", ""]


def test_a_state_error_keeps_its_details() -> None:
    with pytest.raises(StateError) as caught:
        raising(StateError("no", state="ready", wanted=["running"])).save()
    assert caught.value.wanted == ["running"]
