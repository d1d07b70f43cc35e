"""What is kept of connections, with objects in their place: how many, and that the others are closed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from vc_core.client import kept_links
from vc_core.client.kept_links import KEPT_MAX
from vc_core.client.link import Link


class Connection:
    """A connection that counts how often it was closed."""

    def __init__(self) -> None:
        self.closed = 0

    def release(self) -> None:
        self.closed += 1


@pytest.fixture(autouse=True)
def none_before_and_after() -> Iterator[None]:
    kept_links.close_all()
    yield
    kept_links.close_all()


def keep(number: int) -> Connection:
    made = Connection()
    kept_links.keep(Path(f"/run/pods/{number}"), cast(Link, made))
    return made


def test_the_connection_used_least_recently_is_closed_when_there_are_too_many() -> None:
    first, second = keep(0), keep(1)
    again = keep(0)
    others = [keep(number) for number in range(2, KEPT_MAX + 1)]
    assert (first.closed, second.closed, again.closed) == (1, 1, 0)
    assert not any(other.closed for other in others)


def test_the_connection_of_a_pod_is_closed_once() -> None:
    one, other = keep(0), keep(1)
    kept_links.close(Path("/run/pods/0"))
    kept_links.close(Path("/run/pods/0"))
    assert (one.closed, other.closed) == (1, 0)
    kept_links.close_all()
    assert (one.closed, other.closed) == (1, 1)
