"""Stands between the core and the objects that plug-ins make, so that an error names the plug-in that caused it.

:func:`guard` returns an object of the same interface around a plug-in's object. Each property and method of the
interface calls that of the plug-in's object; an exception that is no VCError becomes a DriverContractError that names
plug-in, distribution and method, and so does a result of the wrong type.
"""

from __future__ import annotations

import asyncio
import dis
import inspect
import json
import math
import signal
import threading
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from functools import cache, wraps
from traceback import walk_tb
from types import UnionType, coroutine
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from vc_core import trace
from vc_core.config.values import quoted
from vc_core.driver.agent import Agent
from vc_core.driver.guest import GuestBuilder
from vc_core.driver.hypervisor import Hypervisor
from vc_core.driver.spawner import Spawner
from vc_core.errors import VCError
from vc_core.plugins.limits import OverrunError, limit, limited
from vc_core.plugins.loaded import LoadedPlugin
from vc_core.plugins.running_call import Call, Executing

_T = TypeVar("_T")

#: The interfaces whose objects drivers make.
INTERFACES: tuple[type, ...] = (Hypervisor, Agent, Spawner, GuestBuilder)

#: Most bytes of JSON that ``save`` may return; a record holds two, and the store reads files of 16 MiB at most.
SAVED_MAX = 1024 * 1024

#: The integers that the record's encoder takes (msgspec: signed or unsigned, of 64 bits).
_INTEGERS = range(-(2**63), 2**64)


def guard(plugin: LoadedPlugin, made: _T) -> _T:
    """Return an object around ``made``, which a hook of ``plugin`` returned; anything that has no interface as it is.

    The object is an instance of the interface, not of the plug-in's class, whose name its class has. Other attributes
    than those of the interface are those of ``made``.
    """
    for interface in INTERFACES:
        if isinstance(made, interface):
            guarded: _T = _guarded_class(interface, type(made).__name__)(plugin, made)
            return guarded
    return made


def call(plugin: LoadedPlugin, where: str, function: Callable[[], _T]) -> _T:
    """Return the result of ``function``, which executes the plug-in's hook or method ``where``, and record the call.

    Raises VCError: in the place of any other exception a DriverContractError. An exception that a handler of a signal
    of this process raised passes.
    """
    with Executing(plugin.call(where)):
        return convert(plugin, where, function)


def convert(plugin: LoadedPlugin, where: str, function: Callable[[], _T]) -> _T:
    """Return the result of ``function``, with its exceptions converted as :func:`call` does."""
    try:
        return function()
    except BaseException as error:
        if from_signal(error) or _can_be_sent(error):
            raise
        raise plugin.raised(error, where) from error


def _can_be_sent(error: BaseException) -> bool:
    """Return whether an exception is a whole VCError with a text: a plug-in's class need not call VCError.__init__."""
    if not isinstance(error, VCError):
        return False
    try:
        wire = error.to_wire()
        json.dumps(wire)
    except Exception:
        return False
    return bool(wire["message"].strip()) and wire["message"] == str(error)


def from_signal(error: BaseException) -> bool:
    """Return whether a handler of a signal raised an exception that interrupted a plug-in, as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        return False
    codes = [frame.f_code for frame, _ in walk_tb(error.__traceback__)]
    if isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # That handler is not in Python and has no frame: the last frame is that of the code that it interrupted.
        *_, (last, _) = walk_tb(error.__traceback__)
        return dis.opname[last.f_code.co_code[last.f_lasti]] != "RAISE_VARARGS"
    handlers = map(signal.getsignal, signal.valid_signals())
    return any(getattr(handler, "__code__", None) in codes for handler in handlers)


class _Guarded:
    """Base of the objects that :func:`guard` returns."""

    def __init__(self, plugin: LoadedPlugin, made: object) -> None:
        self._vc_plugin, self._vc_made = plugin, made

    def __getattr__(self, name: str) -> object:
        """Return an attribute of the plug-in's object that is not part of the interface."""
        if name.startswith("_vc_"):
            raise AttributeError(name)
        return getattr(self._vc_made, name)

    def __repr__(self) -> str:
        return quoted(self._vc_made)


@cache
def _guarded_class(interface: type, name: str) -> Any:
    """Return a class of ``interface`` whose members are those of another object, for each public name."""
    members = {
        member: _delegate(member, inspect.getattr_static(interface, member))
        for member in dir(interface)
        if not member.startswith("_")
    }
    return type(name, (_Guarded, interface), members)


def _delegate(name: str, member: Any) -> object:
    """Return what stands for one member of an interface in a guarded class."""
    if isinstance(member, property):
        return _property(name, member)
    types = _types(get_type_hints(member).get("return"))
    method = _async_method(name, types, member) if inspect.iscoroutinefunction(member) else _method(name, types)
    return wraps(member, updated=())(method)


def _property(name: str, member: property) -> property:
    types = _types(get_type_hints(member.fget).get("return"))

    def value(self: _Guarded) -> object:
        result = call(self._vc_plugin, name, lambda: getattr(self._vc_made, name))
        return _checked(self._vc_plugin, name, result, types)

    return property(value, doc=member.__doc__)


def _method(name: str, types: tuple[type, ...]) -> Callable[..., object]:
    def method(self: _Guarded, *arguments: object, **named: object) -> object:
        result = call(self._vc_plugin, name, lambda: getattr(self._vc_made, name)(*arguments, **named))
        if inspect.iscoroutine(result):
            result.close()
            raise self._vc_plugin.contract_error(f"has an async def {name}; the interface has a def")
        return _checked(self._vc_plugin, name, result, types)

    return method


def _async_method(
    name: str, types: tuple[type, ...], member: Callable[..., object]
) -> Callable[..., Awaitable[object]]:
    parameters = list(inspect.signature(member).parameters)
    place = parameters.index("timeout") - 1 if "timeout" in parameters else len(parameters)  # without self

    async def method(self: _Guarded, *arguments: object, **named: object) -> object:
        result = call(self._vc_plugin, name, lambda: getattr(self._vc_made, name)(*arguments, **named))
        if not isinstance(result, Awaitable):
            raise self._vc_plugin.contract_error(f"has a def {name}; the interface has an async def")
        seconds = limit(name, arguments[place] if place < len(arguments) else named.get("timeout"))
        return _checked(self._vc_plugin, name, await _awaited(self._vc_plugin, name, result, seconds), types)

    return method


async def _awaited(plugin: LoadedPlugin, name: str, awaitable: Awaitable[object], seconds: float | None) -> object:
    """Await what an async method of a plug-in's object returned, for ``seconds`` at most: the one place that does.

    Raises VCError. A cancellation of this task passes; a CancelledError without one does not.
    """
    task = asyncio.current_task()
    try:
        work = limited(_stepped(awaitable, plugin.call(name)), seconds, name)
        if seconds is None:
            return await work
        with trace.span(f"{plugin.name}: {name}"):
            return await work
    except OverrunError as error:
        raise plugin.contract_error(error.clause) from error
    except BaseException as error:
        cancelled = isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling())
        closed = isinstance(error, GeneratorExit) and task is not _running_task()  # by the collector of garbage
        if cancelled or closed or from_signal(error) or _can_be_sent(error):
            raise
        raise plugin.raised(error, name) from error


def _running_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no event loop runs
        return None


@coroutine
def _stepped(awaitable: Awaitable[_T], call: Call) -> Generator[Any, Any, _T]:
    """Await an awaitable, and record the time in which its own code is executed, not that in which it waits."""

    async def work() -> _T:
        return await awaitable

    steps = work()
    resume: Callable[[Any], Any] = steps.send
    answer: Any = None
    while True:
        try:
            with Executing(call):
                waiting_for = resume(answer)
        except StopIteration as end:
            result: _T = end.value
            return result
        try:
            answer = yield waiting_for
            resume = steps.send
        except GeneratorExit:
            with Executing(call):
                steps.close()
            raise
        except BaseException as error:
            resume, answer = steps.throw, error


def _checked(plugin: LoadedPlugin, name: str, result: _T, types: tuple[type, ...]) -> _T:
    """Return a result of a plug-in's method if it is of one of the ``types``; if there are none, any result.

    Raises DriverContractError.
    """
    if types and not isinstance(result, types):
        names = " or ".join("None" if one is type(None) else one.__name__ for one in types)
        raise plugin.contract_error(f"returned {quoted(result)} from {name}, which must return {names}")
    if name == "save" and (problem := _why_not_saved(plugin, result)):
        raise plugin.contract_error(f"returned from save what no record can hold: {problem}")
    return result


def _types(wanted: Any) -> tuple[type, ...]:
    """Return the classes for isinstance of an annotation; none for that of a method whose result nothing looks at."""
    if wanted in (None, type(None), object):
        return ()
    if isinstance(wanted, UnionType):
        return tuple(kind for one in get_args(wanted) for kind in _types(one) or (type(None),))
    origin = get_origin(wanted) or wanted
    return (Sequence,) if origin in (tuple, list) else (origin,)


def _why_not_saved(plugin: LoadedPlugin, saved: object) -> str:
    """Return what keeps a result of ``save`` from being written to a record and read again, "" if nothing does."""

    def problem(value: object, path: str) -> str:
        match value:
            case None | bool():
                return ""
            case int():
                return "" if value in _INTEGERS else f"{path} is {quoted(value)}, which needs more than 64 bits"
            case float():
                return "" if math.isfinite(value) else f"{path} is {value!r}, which JSON does not have"
            case str():
                return "" if _is_utf8(value) else f"{path} is {quoted(value)}, which is not UTF-8"
            case Mapping():
                for key in value:
                    if not isinstance(key, str) or not _is_utf8(key):
                        return f"{path} has the key {quoted(key)}, which is not a string in UTF-8"
                return next(filter(None, (problem(one, f"{path}[{key!r}]") for key, one in value.items())), "")
            case list() | tuple():
                return next(filter(None, (problem(one, f"{path}[{number}]") for number, one in enumerate(value))), "")
        return f"{path} is {quoted(value)}, which is not of a type of JSON"

    def examine() -> str:
        try:
            found = problem(saved, "it")
            size = 0 if found else len(json.dumps(_plain(saved)))
        except RecursionError:
            return "it is nested too deeply"
        return found or (f"it is {size} bytes of JSON; {SAVED_MAX} at most" if size > SAVED_MAX else "")

    return call(plugin, "save", examine)  # a mapping of its own may raise, too


def _plain(value: Any) -> Any:
    """Return a value as objects that the standard library's encoder of JSON takes."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
