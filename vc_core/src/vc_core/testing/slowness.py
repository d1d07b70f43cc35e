"""The factor by which limits of time in tests are multiplied on a slow host."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

#: The environment variable that multiplies all limits of the contract and of this repository's tests; 1 without it.
VARIABLE = "VC_TEST_SLOWNESS"


def slowness() -> float:
    """Return the factor of :data:`VARIABLE`, at least 1. Raises pytest.UsageError for what is not a number."""
    given = os.environ.get(VARIABLE, "1")
    try:
        return max(1.0, float(given))
    except ValueError as error:
        raise pytest.UsageError(
            f"{VARIABLE} is {given!r}; give a number, by which limits of time are multiplied"
        ) from error


def scaled(seconds: float) -> float:
    """Return a limit in seconds for this host."""
    return seconds * slowness()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail the test if the block takes longer than that many seconds, times :func:`slowness`."""
    began = time.monotonic()
    yield
    took, limit = time.monotonic() - began, scaled(seconds)
    if took >= limit:
        pytest.fail(f"took {took:.2f} s; {limit:g} s at most (see {VARIABLE})")
