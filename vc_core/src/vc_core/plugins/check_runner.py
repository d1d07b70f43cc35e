"""Checks installed plug-ins, each in a process of its own (``python -m vc_core.plugins.check_runner FD KIND NAME``).

So a plug-in that hangs, exits or crashes is one line in the table of ``virtc drivers`` and nothing more.
``vc_core.testing.PluginContract`` runs the same checks on a driver in development, one test for each.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from vc_core.driver.kinds import PluginKind
from vc_core.driver.options import Option, list_options
from vc_core.errors import VCError
from vc_core.frozen import frozen
from vc_core.plugins import versions
from vc_core.plugins.checks import DriverUnderTest, possible_checks, run_check
from vc_core.plugins.drivers import DriverInfo
from vc_core.plugins.isolation import end_with_starter, how_it_ended, in_parallel, own_output, run_isolated
from vc_core.plugins.registry import Plugins

#: Seconds to check one plug-in; a good one takes a fraction of a second, most of it Python's own start.
TIMEOUT = 10.0


@frozen
class CheckReport:
    """The result of checking one plug-in, in sentences, and the options that it declares.

    ``problems`` keep it from working on this host. ``violations`` break its contract, on any host. A plug-in that
    cannot be loaded or checked has a sentence in both.
    """

    kind: str
    name: str
    distribution: str
    version: str
    problems: tuple[str, ...]
    violations: tuple[str, ...]
    options: tuple[Option, ...] = ()


@dataclass(slots=True)
class _Found:
    """What the process that checks a plug-in prints, as JSON: the fields of :class:`CheckReport` that it finds."""

    problems: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    options: tuple[Option, ...] = ()


def check_installed(
    names: tuple[str, ...] = (), *, contract: bool = False, timeout: float = TIMEOUT
) -> list[CheckReport]:
    """Return one report for each installed plug-in, of those with one of ``names`` if any are given.

    Called by ``virtc drivers``. ``contract``: run the checks of its contract too, besides loading and probing each
    driver; of a driver with required options, whose values the core cannot choose, only those that need no options.
    ``timeout``: seconds for each plug-in; they are checked in parallel.
    """
    found = [one for one in Plugins().installed() if not names or one.name in names]
    reports = in_parallel(lambda one, lifeline: _check_in_process(one, contract, timeout, lifeline), found)
    return [_with_requirements(report) for report in reports]


def _with_requirements(report: CheckReport) -> CheckReport:
    """Return a report with what is wrong with the requirements of the plug-in's distribution.

    A requirement on another vc-core is in the report already: for that, the plug-in is refused when it is loaded.
    """
    distribution = importlib.metadata.distribution(report.distribution)
    plugin = f"{PluginKind(report.kind).noun} {report.name!r} of {report.distribution} {report.version}"
    unmet = [f"{plugin} {clause}" for clause in versions.unmet_requirements(distribution)]
    clause = versions.missing_core_requirement(distribution)
    violations = (*report.violations, *([f"{plugin} {clause}"] if clause else []))
    return replace(report, problems=(*unmet, *report.problems), violations=violations)


def _check_in_process(one: DriverInfo, contract: bool, timeout: float, lifeline: int) -> CheckReport:
    """Check a plug-in in a process that is killed when the last end of the pipe ``lifeline`` for writing is closed."""
    arguments = [str(one.kind), one.name, *(["--contract"] * contract)]
    lines, in_time = run_isolated("vc_core.plugins.check_runner", arguments, timeout, lifeline)
    try:
        found = json.loads(lines[-1])
        problems, violations = tuple(found["problems"]), tuple(found["violations"])
        options = tuple(Option(**option) for option in found["options"])
    except (IndexError, ValueError, TypeError):  # it ended in the step that the last line names
        step = lines[-1] if lines else "starting"
        plugin = f"{one.kind.noun} {one.name!r} of {one.distribution} {one.version}"
        problems = violations = (
            f"{plugin} {how_it_ended(in_time, timeout)} in this step: {step}; repair or uninstall it",
        )
        options = ()
    return CheckReport(one.kind, one.name, one.distribution, one.version, problems, violations, options)


def _check(kind: PluginKind, name: str, contract: bool, on_step: Callable[[str], None]) -> _Found:
    """Check a plug-in in this process; ``on_step`` is called with the name of each step before it."""
    plugins = Plugins(bare=True)
    found = _Found()
    on_step("loading it")
    try:
        if kind is PluginKind.EXTENSION:
            plugins.extension(name)
            return found
        driver = plugins.driver(kind, name)
        on_step("vc_driver_options")
        found.options = list_options(driver.options_class())
        on_step("vc_driver_probe")
        found.problems += driver.probe()
    except VCError as error:
        found.problems.append(str(error))
        found.violations.append(str(error))
        return found
    with tempfile.TemporaryDirectory(prefix="vc-check-") as directory:
        tested = DriverUnderTest(driver, {}, Path(directory))
        for check in possible_checks(tested) if contract else ():
            on_step(check.__name__.replace("_", " "))
            found.violations += run_check(check, tested)
    return found


def main() -> None:
    """Check the plug-in that the arguments name, and print each step and, last, the result as one line of JSON."""
    end_with_starter(int(sys.argv[1]))
    with own_output() as out:
        kind, name, *more = sys.argv[2:]
        found = _check(PluginKind(kind), name, bool(more), lambda step: print(step, file=out, flush=True))
        print(json.dumps(asdict(found), default=str), file=out, flush=True)


if __name__ == "__main__":
    main()
