"""The part of a driver's contract that can be looked at cheaply, without a VM, on any installed driver.

``virtc drivers`` examines each driver in a process of its own (:func:`examine_installed`), so that one that hangs,
exits or crashes is a line in the table and nothing more. ``vc_core.testing.PluginContract`` holds a driver under
development to the same promises, one test for each of :data:`PROMISES`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vc_core.driver.kinds import PluginKind
from vc_core.errors import VCError
from vc_core.plugins.drivers import DriverInfo
from vc_core.plugins.promises import PROMISES, Subject, driver, keeps
from vc_core.plugins.registry import Plugins

#: Seconds for the examination of one driver; a good one takes a fraction of a second, most of it Python's own start.
TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found about one plug-in, in sentences.

    ``problems``: what keeps it from working on this host. ``faults``: how it breaks its contract, on any host. One
    that cannot be loaded or looked at has a sentence in both.
    """

    kind: str
    name: str
    distribution: str
    version: str
    problems: tuple[str, ...]
    faults: tuple[str, ...]


# Each in a process of its own.


def examine_installed(
    names: tuple[str, ...] = (), *, promises: bool = False, timeout: float = TIMEOUT
) -> list[Examination]:
    """Return what is wrong with each installed plug-in, of these names only if any are given.

    Called by ``virtc drivers``; ``promises`` says whether to hold drivers to all of :data:`PROMISES` besides loading
    and probing them. Each is examined in a process of its own, for ``timeout`` seconds at most.
    """
    found = [one for one in Plugins().installed() if not names or one.name in names]
    with ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 1)) as pool:
        return list(pool.map(lambda one: _examine_elsewhere(one, promises, timeout), found))


def _examine_elsewhere(one: DriverInfo, promises: bool, timeout: float) -> Examination:
    command = [
        sys.executable,
        "-P",
        "-m",
        "vc_core.plugins.examine",
        str(one.kind),
        one.name,
        *(["--promises"] * promises),
    ]
    late = False
    # A group of its own, so that what a driver starts goes with it.
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, process_group=0
    ) as process:
        try:
            said, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired as error:
            late, said = True, error.output or b""
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    lines = said.decode(errors="replace").splitlines()
    try:
        found = json.loads(lines[-1])
        problems, faults = tuple(found["problems"]), tuple(found["faults"])
    except (IndexError, ValueError, TypeError):  # it got no further than the last step that it named
        step = lines[-1] if lines else "starting"
        how = f"hangs ({timeout:g} s)" if late else "ends the process"
        plugin = f"{one.kind.noun} {one.name!r} of {one.distribution} {one.version}"
        problems = faults = (f"{plugin} {how} in this step: {step}; repair or uninstall it",)
    return Examination(one.kind, one.name, one.distribution, one.version, problems, faults)


def _examine(kind: PluginKind, name: str, promises: bool, tell: Callable[[str], None]) -> dict[str, list[str]]:
    """Examine a plug-in in this process; ``tell`` is called with what is about to be done."""
    plugins = Plugins()
    problems: list[str] = []
    faults: list[str] = []
    tell("loading it")
    try:
        if kind is PluginKind.EXTENSION:
            plugins.extension(name)
            return {"problems": problems, "faults": faults}
        subject_driver = driver(plugins, kind, name)
        tell("vc_driver_probe")
        problems = subject_driver.probe()
    except VCError as error:
        return {"problems": [str(error)], "faults": [str(error)]}
    with tempfile.TemporaryDirectory(prefix="vc-check-") as directory:
        subject = Subject(subject_driver, {}, Path(directory))
        for promise in PROMISES if promises else ():
            tell(f"{promise.__name__.replace('_', ' ')}")
            faults += keeps(promise, subject)
    return {"problems": problems, "faults": faults}


def main() -> None:
    """Examine one plug-in, of the kind and name in the arguments, and print what was found as one line of JSON."""
    ours = os.dup(1)
    os.dup2(2, 1)  # what a driver prints is not for our reader
    with os.fdopen(ours, "w", encoding="utf-8") as out:
        kind, name, *more = sys.argv[1:]
        found = _examine(PluginKind(kind), name, bool(more), lambda step: print(step, file=out, flush=True))
        print(json.dumps(found), file=out, flush=True)


if __name__ == "__main__":
    main()
