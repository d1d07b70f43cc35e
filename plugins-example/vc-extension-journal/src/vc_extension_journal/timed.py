"""A hypervisor around any other, which notes how long each call took."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from vc_core.driver import Hypervisor

#: Called with a method's name, the seconds it took, and the class of its exception or None.
Note = Callable[[str, float, str | None], None]


def timed(hypervisor: Hypervisor, note: Note) -> Hypervisor:
    """Return a hypervisor that does what another does, and notes each call."""
    made: Hypervisor = _Timed(hypervisor, note)
    return made


def _init(self: Any, hypervisor: Hypervisor, note: Note) -> None:
    self._inner, self._note = hypervisor, note


@contextmanager
def _clock(self: Any, name: str) -> Iterator[None]:
    began, failure = time.monotonic(), None
    try:
        yield
    except BaseException as error:
        failure = type(error).__name__
        raise
    finally:
        self._note(name, time.monotonic() - began, failure)


def _around(name: str, member: object) -> object:
    """Return what stands in for a member of the abstract base class."""
    if isinstance(member, property):
        return property(lambda self: getattr(self._inner, name))
    if inspect.iscoroutinefunction(member):

        async def call_async(self: Any, *arguments: Any, **named: Any) -> Any:
            with _clock(self, name):
                return await getattr(self._inner, name)(*arguments, **named)

        return call_async

    def call(self: Any, *arguments: Any, **named: Any) -> Any:
        with _clock(self, name):
            return getattr(self._inner, name)(*arguments, **named)

    return call


#: Made from the base class as it is installed, so that methods which a later core adds are passed on too.
_Timed: Any = type(
    "TimedHypervisor",
    (Hypervisor,),
    {
        "__init__": _init,
        **{name: _around(name, member) for name, member in vars(Hypervisor).items() if not name.startswith("_")},
    },
)
