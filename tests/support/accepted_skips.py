"""In continuous integration a skip that ``tests/accepted-skips.txt`` does not accept is a failure; a pytest plugin.

With ``CI`` in the environment (neither empty nor "false") the session fails, and names each such skip with its reason.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

ACCEPTED = Path(__file__).parents[1] / "accepted-skips.txt"

#: Between the pattern of node ids and that of reasons.
SEPARATOR = " => "


def read(path: Path) -> list[tuple[re.Pattern[str], re.Pattern[str]]]:
    """Return the pairs of patterns of a list. Raises ValueError with the line that is not a pair."""
    pairs = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        test, separator, reason = line.partition(SEPARATOR)
        if not separator:
            raise ValueError(f"{path}:{number}: there is no {SEPARATOR.strip()!r} in {line!r}")
        try:
            pairs.append((re.compile(test.strip()), re.compile(reason.strip())))
        except re.error as error:
            raise ValueError(f"{path}:{number}: {error} in {line!r}") from error
    return pairs


class AcceptedSkips:
    """Collects the skips of a session that no line accepts."""

    def __init__(self, accepted: Sequence[tuple[re.Pattern[str], re.Pattern[str]]]) -> None:
        self._accepted = accepted
        self.others: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note the skip of a test."""
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note the skip of a whole file."""
        self._note(report)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail the session."""
        if self.others and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """List the skips."""
        if self.others:
            terminalreporter.section(f"skips that {ACCEPTED.name} does not accept", red=True, bold=True)
            for one in self.others:
                terminalreporter.line(one, red=True)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if not report.skipped or hasattr(report, "wasxfail"):
            return
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reason = reason.removeprefix("Skipped: ")
        if not any(test.fullmatch(report.nodeid) and why.fullmatch(reason) for test, why in self._accepted):
            self.others.append(f"{report.nodeid}: {reason}")


def pytest_configure(config: pytest.Config) -> None:
    """Register the collector in continuous integration."""
    if os.environ.get("CI", "").lower() not in ("", "false", "0"):
        try:
            config.pluginmanager.register(AcceptedSkips(read(ACCEPTED)))
        except ValueError as error:
            raise pytest.UsageError(str(error)) from error
