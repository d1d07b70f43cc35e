"""Each system call of an operation fails, or kills the process: one sentence, the old state, and nothing left.

Each test tries a part of the points, the same in every run; ``./dev soak`` tries all.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from system_calls import Campaign, Point, campaign, operations

pytestmark = [pytest.mark.slow, pytest.mark.needs("strace")]

#: How many points of an operation are tried: about 1 s when the machine is quiet.
POINTS = 5

#: Of those that start another interpreter or a supervisor, fewer.
POINTS_OF_SLOW = 1

SLOW = [name for name, one in operations().items() if one.executed or "by force" in name or "its client" in name]


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campaign]:
    with campaign(tmp_path_factory.mktemp("calls")) as every:
        yield every


def _problems(every: Campaign, points: list[Point]) -> list[str]:
    """Try points that are spread over all kinds of calls and all steps of an operation; return what is wrong."""
    tried = POINTS_OF_SLOW if points[0].operation in SLOW else POINTS
    assert len(points) >= tried
    chosen = [points[number * len(points) // tried] for number in range(tried)]
    return [f"{point}: {problem}" for point in chosen for problem in every.problems(point)]


@pytest.mark.promise("T13")
@pytest.mark.parametrize("operation", operations())
def test_a_system_call_that_fails_is_one_sentence_and_changes_nothing(operation: str, every: Campaign) -> None:
    assert _problems(every, [point for point in every.points(operation) if point.error]) == []


@pytest.mark.promise("T03")
@pytest.mark.parametrize("operation", [name for name, one in operations().items() if one.changes])
def test_a_process_killed_at_a_system_call_leaves_nothing(operation: str, every: Campaign) -> None:
    assert _problems(every, [point for point in every.points(operation) if not point.error]) == []


@pytest.mark.promise("T05", "T28")
@pytest.mark.parametrize("operation", ["list", "status"])
def test_nothing_is_written_and_nobody_signalled_or_waited_for_by(operation: str, every: Campaign) -> None:
    assert every.changes(operation) == []


@pytest.mark.promise("T28")
def test_what_an_operation_writes_would_be_seen(every: Campaign) -> None:
    assert every.changes("create") != []
