"""Calls a hook through the wrappers of extensions, and finds out which plug-in caused an error or made the result.

pluggy calls a driver's method, and the two halves of each wrapper around it, in turn. :func:`track` puts a function
before each of these: an exception becomes an error that names the plug-in whose code raised it. A half of a wrapper
that does not return in time is left behind on its thread; its extension is disabled, and the call goes on without it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import Any

from vc_core import trace
from vc_core.driver.kinds import PluginKind
from vc_core.errors import VCError
from vc_core.frozen import frozen
from vc_core.plugins.guard import call, convert
from vc_core.plugins.loaded import LoadedPlugin
from vc_core.plugins.notifications import HookTimeoutError, with_timeout
from vc_core.plugins.running_call import Executing

#: Seconds that a driver's hook may take. It makes an object and does no I/O, but may import modules.
HOOK_TIMEOUT = 10.0

_Generator = Generator[None, object, object]

#: Returns what the core, and the wrappers around, get for what a hook of a plug-in returned.
Protect = Callable[[LoadedPlugin, object], object]
#: Disables an extension whose wrapper of the named hook did not return in time.
Disable = Callable[[LoadedPlugin, str], None]

#: The author of the result of the hook that is being called.
_author: ContextVar[LoadedPlugin] = ContextVar("author")


@frozen
class HookResult:
    """What a hook returned, unchecked, and ``author``: the driver, or the extension whose wrapper replaced it last."""

    value: object
    author: LoadedPlugin


def perform(caller: Callable[..., object], plugin: LoadedPlugin, arguments: Mapping[str, object]) -> HookResult:
    """Call a hook of ``plugin`` by pluggy's ``caller``, whose implementations were tracked, and return its result.

    Called by the registry for each call of a driver's hook. Raises the VCError of a plug-in, and a DriverContractError
    that names the plug-in which raised something else.
    """
    token = _author.set(plugin)
    try:
        with trace.span(f"{plugin.name}: {getattr(caller, 'name', 'a hook')}"):
            return HookResult(caller(**arguments), _author.get())
    finally:
        _author.reset(token)


def track(impl: Any, hook: str, plugin: LoadedPlugin, protect: Protect, timeout: float, disable: Disable) -> None:
    """Let a ``pluggy.HookImpl`` of ``plugin`` call its function so that errors name the plug-in.

    Called when a plug-in is registered. ``timeout``: seconds for each half of a wrapper. An extension's method for a
    notification stays as it is.
    """
    if impl.wrapper:
        impl.function = partial(_wrapper, impl.function, hook, plugin, protect, timeout, disable)
    elif plugin.kind is not PluginKind.EXTENSION:
        impl.function = partial(_hook, impl.function, hook, plugin, protect)


def _hook(
    function: Callable[..., object], hook: str, plugin: LoadedPlugin, protect: Protect, *arguments: object
) -> object:
    """Call a driver's method for a hook, on a thread of its own: it may hang.

    Raises VCError: a DriverContractError when it does not return in time. It is then left behind on its thread.
    """
    try:
        return with_timeout(
            lambda: call(plugin, hook, lambda: _protected(plugin, hook, protect, function(*arguments))), HOOK_TIMEOUT
        )
    except HookTimeoutError as error:
        message = f"did not return from {hook} within {HOOK_TIMEOUT:g} s; repair or uninstall it"
        raise plugin.contract_error(message) from error


def _wrapper(
    function: Callable[..., _Generator],
    hook: str,
    extension: LoadedPlugin,
    protect: Protect,
    timeout: float,
    disable: Disable,
    *arguments: object,
) -> _Generator:
    """Execute the two halves of an extension's wrapper around the rest of the call, each on a thread of its own."""
    half = partial(_execute_half, extension, hook, timeout)
    made: list[_Generator] = []

    def begin() -> None:
        made.append(function(*arguments))
        next(made[0])

    try:
        if half(begin):
            raise extension.contract_error(f"wraps {hook} without a yield; a wrapper yields once")
    except HookTimeoutError:
        disable(extension, hook)
        return (yield)
    result, failure = None, None
    try:
        result = yield
    except VCError as error:
        failure = error
    except BaseException:  # of the handler of a signal
        with suppress(VCError, HookTimeoutError):
            half(made[0].close)
        raise
    try:
        ended = half(partial(made[0].throw, failure) if failure else partial(made[0].send, result))
    except HookTimeoutError:
        disable(extension, hook)
        if failure:
            raise failure from failure.__cause__
        return result
    if ended is None:
        raise extension.contract_error(f"wraps {hook} with a second yield; a wrapper yields once")
    (value,) = ended
    if value is result and not failure:
        return result
    _author.set(extension)
    return convert(extension, _where(hook), lambda: _protected(extension, hook, protect, value))


def _protected(plugin: LoadedPlugin, hook: str, protect: Protect, value: object) -> object:
    """Return what the core gets for a result of a hook. Raises DriverContractError for a coroutine."""
    if inspect.iscoroutine(value):
        value.close()  # Python warns of one that was never awaited
        raise plugin.contract_error(f"returned a coroutine from {hook}, which nothing awaits")
    return protect(plugin, value)


def _execute_half(
    extension: LoadedPlugin, hook: str, timeout: float, half: Callable[[], object]
) -> tuple[object] | None:
    """Execute a half of a wrapper; return what its generator returned, None if it has yielded.

    Raises VCError, HookTimeoutError.
    """

    def step() -> tuple[object] | None:
        try:
            half()
        except StopIteration as end:
            return (end.value,)
        return None

    with Executing(extension.call(_where(hook))):
        return with_timeout(lambda: convert(extension, _where(hook), step), timeout)


def _where(hook: str) -> str:
    return f"its wrapper of {hook}"
