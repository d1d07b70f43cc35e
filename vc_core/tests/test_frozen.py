"""``@frozen`` makes the class that ``@dataclass(frozen=True, slots=True)`` makes."""

from __future__ import annotations

import copy
import inspect
import pickle
from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, replace
from typing import Any

import msgspec
import pytest

from vc_core.frozen import frozen


@frozen
class Point:
    """A place."""

    x: int
    y: int = 0
    tags: list[str] = field(default_factory=list)
    secret: str = field(default="s", compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.x < 0:
            raise ValueError("x is negative")


@frozen(kw_only=True)
class Named:
    """A name."""

    name: str = ""
    place: Point | None = None


@dataclass(frozen=True, slots=True)
class Twin:
    """A place, as the standard library makes it."""

    x: int
    y: int = 0
    tags: list[str] = field(default_factory=list)
    secret: str = field(default="s", compare=False, repr=False)


def test_it_is_initialized_shown_and_compared_as_a_dataclass() -> None:
    point, twin = Point(1, tags=["a"]), Twin(1, tags=["a"])
    assert repr(point) == repr(twin).replace("Twin", "Point")
    assert point == Point(1, 0, ["a"], "other") != Point(2, 0, ["a"])
    assert asdict(point) == asdict(twin)
    assert [one.name for one in fields(point)] == [one.name for one in fields(twin)]
    assert inspect.signature(Point) == inspect.signature(Point.__init__).replace(
        parameters=list(inspect.signature(Point.__init__).parameters.values())[1:]
    )
    assert str(inspect.signature(Point)) == str(inspect.signature(Twin))
    assert Point.__match_args__ == Twin.__match_args__


def test_each_object_gets_what_its_factory_makes() -> None:
    assert Point(1).tags is not Point(1).tags


def test_equal_objects_have_one_hash() -> None:
    assert hash(Named(name="a")) == hash(Named(name="a"))
    assert len({Named(name="a"), Named(name="a"), Named(name="b")}) == 2


def test_it_cannot_be_changed() -> None:
    point = Point(1)
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'x'"):
        point.x = 2  # type: ignore[misc] # the mistake of which this is a test
    with pytest.raises(FrozenInstanceError, match="cannot delete field 'x'"):
        del point.x
    with pytest.raises(FrozenInstanceError):
        point.other = 1  # type: ignore[attr-defined]


def test_it_is_checked_when_made_replaced_and_decoded() -> None:
    with pytest.raises(ValueError, match="negative"):
        Point(-1)
    with pytest.raises(ValueError, match="negative"):
        replace(Point(1), x=-1)
    with pytest.raises(msgspec.ValidationError, match="negative"):
        msgspec.json.decode(b'{"x": -1}', type=Point)


def test_it_can_be_copied_pickled_and_sent() -> None:
    named = Named(name="a", place=Point(1, 2, ["b"]))
    assert copy.deepcopy(named) == named
    assert pickle.loads(pickle.dumps(named)) == named
    assert msgspec.json.decode(msgspec.json.encode(named), type=Named) == named


def test_a_class_that_has_no_fields_can_be_one() -> None:
    @frozen
    class Empty:
        """Nothing."""

    assert Empty() == Empty()
    assert repr(Empty()).endswith("Empty()")


def test_a_class_that_inherits_has_the_fields_of_both() -> None:
    @frozen
    class Colored(Point):
        """A place with a color."""

        color: str = ""

    assert Colored(1, color="red") == Colored(1, 0, [], color="red")
    assert Colored(1) != Point(1)


def test_a_class_is_compiled_when_its_first_object_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []

    def compile_(*arguments: Any) -> None:
        compiled.append(arguments)
        exec(*arguments)  # noqa: S102 # as dataclasses does

    monkeypatch.setattr("vc_core.frozen.exec", compile_, raising=False)

    @frozen
    class Fresh:
        """A class of its own."""

        x: int

    assert not compiled
    assert (Fresh(1).x, Fresh(2).x) == (1, 2)
    assert len(compiled) == 1
