"""Limits of time in tests: a factor for a slow host, and what a busy one adds."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

#: The environment variable that multiplies all limits of the contract and of this repository's tests; 1 without it.
VARIABLE = "VC_TEST_SLOWNESS"

#: How many times its limit a block may take on a busy host: where the promise is a second, what hangs until a timeout
#: of ten seconds takes longer.
_BUSY = 8

#: Where the kernel shows for how long processes have waited (PSI, Documentation/accounting/psi.rst in Linux).
_PRESSURE = Path("/proc/pressure")

#: Where the kernel of a virtual machine shows for how long others had its processors (steal, in proc(5)).
_STATISTICS = Path("/proc/stat")


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


class Stopwatch:
    """Counts the seconds since it was made in which no process of the host waited for a processor or a disk.

    Neither do those count in which the host, a virtual machine, waited for processors itself. Of either an eighth
    counts (:data:`_BUSY`): a busy host slows a test down, and no promise is broken by that; what hangs is found all the
    same.
    """

    def __init__(self) -> None:
        self._began, self._before = time.monotonic(), _stalled()

    def seconds(self) -> float:
        """Return the seconds that count."""
        took, waited = self.both()
        return max(took - waited, took / _BUSY)

    def both(self) -> tuple[float, float]:
        """Return all seconds, and those in which processes or the host waited."""
        took = time.monotonic() - self._began
        return took, max(now - before for before, now in zip(self._before, _stalled(), strict=True))


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail the test if the block takes longer than that many seconds of a stopwatch, times :func:`slowness`."""
    watch, limit = Stopwatch(), scaled(seconds)
    yield
    if watch.seconds() >= limit:
        took, waited = watch.both()
        pytest.fail(
            f"took {took:.2f} s, in {waited:.2f} s of which processes or this host waited for a processor or a disk; "
            f"{limit:g} s at most (see {VARIABLE})"
        )


def _stalled() -> list[float]:
    """Return for how many seconds processes have waited for processors and for disks, and the host for processors.

    Each is zero where the kernel does not show it.
    """
    return [*(_total(_PRESSURE / resource) for resource in ("cpu", "io")), _stolen()]


def _total(pressure: Path) -> float:
    with suppress(OSError):
        some = pressure.read_text(encoding="utf-8").partition("\n")[0]  # "some avg10=... total=MICROSECONDS"
        return int(some.rpartition("=")[2]) / 1e6
    return 0.0


def _stolen() -> float:
    """Return for how many seconds this host, a virtual machine, has waited for a processor, as a mean of all it has."""
    with suppress(OSError, IndexError):
        everything, *each = (line for line in _STATISTICS.read_bytes().splitlines() if line.startswith(b"cpu"))
        return int(everything.split()[8]) / os.sysconf("SC_CLK_TCK") / len(each)
    return 0.0
