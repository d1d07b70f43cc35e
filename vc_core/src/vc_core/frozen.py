"""Frozen dataclasses that are made fast.

A process of this project makes about a hundred such classes while it loads its modules. ``@dataclass(frozen=True,
slots=True)`` compiles six methods for each of them, which takes a quarter of all that time. Here one is compiled, when
the first object of the class is made, as it is of few classes in one process; the others are shared. Apart from that
the classes are the same, for the functions of ``dataclasses`` too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field, fields
from operator import attrgetter
from typing import Any, TypeVar, dataclass_transform, overload

_T = TypeVar("_T")

_set = object.__setattr__


class _Factory:
    """The default of a parameter whose field has a factory."""

    def __repr__(self) -> str:
        return "<factory>"


@overload
def frozen(cls: type[_T], /) -> type[_T]: ...
@overload
def frozen(*, kw_only: bool) -> Callable[[type[_T]], type[_T]]: ...


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[_T] | None = None, /, *, kw_only: bool = False) -> type[_T] | Callable[[type[_T]], type[_T]]:
    """Make a class a frozen dataclass with slots, as ``@frozen`` or ``@frozen(kw_only=True)``."""
    if cls is None:
        return lambda cls: _make(cls, kw_only)
    return _make(cls, kw_only)


def _make(cls: type[_T], kw_only: bool) -> type[_T]:
    if any("__dataclass_params__" in vars(base) for base in cls.__mro__[1:]):
        return dataclass(frozen=True, slots=True, kw_only=kw_only)(cls)  # which the functions below do not cover
    made = dataclass(init=False, repr=False, eq=False, slots=True, kw_only=kw_only)(cls)
    made.__dataclass_params__.frozen = True  # type: ignore[attr-defined] # for classes that inherit, and for who asks
    found = fields(made)  # type: ignore[arg-type] # a dataclass
    own = vars(made)
    methods = {"__init__": _Init(made, found), "__eq__": _equals, "__hash__": _hash, "__repr__": _repr}
    for name, method in {**methods, **_SHARED}.items():
        if own.get(name) is None:  # __hash__ is None in a class with an __eq__
            setattr(made, name, method)
    compared = [one.name for one in found if one.compare]
    made._compared = attrgetter(*compared) if compared else staticmethod(lambda _: ())  # type: ignore[attr-defined]
    return made


class _Init:
    """Stands for the initialization of a class until that is first looked up."""

    __slots__ = ("_cls", "_found")

    def __init__(self, cls: type, found: tuple[Field[Any], ...]) -> None:
        self._cls, self._found = cls, found

    def __get__(self, made: object, cls: type | None = None) -> Any:
        init: Any = _init(self._cls, self._found)
        self._cls.__init__ = init  # type: ignore[misc] # of a class, as dataclasses does
        return init.__get__(made, cls)


def _init(cls: type, found: tuple[Field[Any], ...]) -> Callable[..., None]:
    """Compile the initialization of a class, with the signature that its fields have."""
    given: dict[str, object] = {"_set": _set, "_made": _Factory()}
    positional: list[str] = []
    keywords: list[str] = []
    body: list[str] = []
    for one in found:
        name, parameter, what = one.name, one.name, one.name
        if one.default is not MISSING:
            given[f"_default_{name}"] = one.default
            parameter += f"=_default_{name}"
        elif one.default_factory is not MISSING:
            given[f"_make_{name}"] = one.default_factory
            parameter += "=_made"
            what = f"_make_{name}() if {name} is _made else {name}"
        (keywords if one.kw_only else positional).append(parameter)
        body.append(f"_set(self, {name!r}, {what})")
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    parameters = ", ".join(["self", *positional, *(["*", *keywords] if keywords else [])])
    text = (
        f"def make({', '.join(given)}):\n def __init__({parameters}):\n  {'; '.join(body) or 'pass'}\n return __init__"
    )
    scope: dict[str, Any] = {}
    exec(text, vars(sys.modules[cls.__module__]), scope)  # noqa: S102 # made of names of fields, as dataclasses does
    init: Callable[..., None] = scope["make"](**given)
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    init.__annotations__ = {**{one.name: one.type for one in found}, "return": None}
    return init


def _equals(self: Any, other: Any) -> bool:
    return self._compared(self) == self._compared(other) if other.__class__ is self.__class__ else NotImplemented


def _hash(self: Any) -> int:
    return hash(self._compared(self))


def _repr(self: Any) -> str:
    shown = ", ".join(f"{one.name}={getattr(self, one.name)!r}" for one in fields(self) if one.repr)
    return f"{type(self).__qualname__}({shown})"


def _refuse_change(_self: object, name: str, _value: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_deletion(_self: object, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _get_state(self: Any) -> list[object]:
    return [getattr(self, one.name) for one in fields(self)]


def _set_state(self: Any, state: list[object]) -> None:
    for one, content in zip(fields(self), state, strict=True):
        _set(self, one.name, content)


_SHARED: dict[str, Callable[..., object]] = {
    "__setattr__": _refuse_change,
    "__delattr__": _refuse_deletion,
    "__getstate__": _get_state,
    "__setstate__": _set_state,
}
