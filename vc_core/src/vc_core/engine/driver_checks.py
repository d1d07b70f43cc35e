"""Lets the drivers of a pod check the host, each in a process of its own, because it may hang or start programs.

The process is ``python -m vc_core.engine.driver_checks LIFELINE KIND HYPERVISOR AGENT GUEST DIRECTORY TIMEOUT``. It
prints a line of JSON for each step, for the driver's name and for each check, and at its end an empty object.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from vc_core.config.ids import pod_uuid
from vc_core.config.pod import HypervisorConfig, PodConfig
from vc_core.driver.context import PodContext
from vc_core.driver.guest import GuestRequest
from vc_core.driver.host_context import HostContext
from vc_core.driver.kinds import PluginKind
from vc_core.engine import assembly, guest_image
from vc_core.engine.workplace import clear_abandoned, workplace
from vc_core.errors import PrivilegeError, VCError
from vc_core.host import namespaces
from vc_core.host_report import CheckOutcome, HostCheck
from vc_core.plugins.drivers import Driver
from vc_core.plugins.isolation import end_with_starter, how_it_ended, in_parallel, own_output, run_isolated
from vc_core.plugins.registry import Plugins
from vc_core.store.roots import Roots, guests_below

#: Seconds for one driver: a trial of hardware virtualization takes five at most, the rest some tenths of a second.
TIMEOUT = 20.0

#: Seconds of these for what comes before and after the driver's own check, such as the start of Python.
_MARGIN = 5.0

#: What is checked, in this order.
_KINDS = (PluginKind.HYPERVISOR, PluginKind.AGENT, PluginKind.GUEST)

#: Called with an object for each line that is printed.
_Emit = Callable[[dict[str, object]], None]


def check_drivers(hypervisor: str, agent: str, guest: str, roots: Roots, timeout: float = TIMEOUT) -> list[HostCheck]:
    """Return what the drivers of a pod find on this host. Called by the client; blocks, ``timeout`` seconds at most.

    ``guest``: name of the guest builder, "" for that of the hypervisor. A driver that fails is a check that failed.
    """
    chosen = (hypervisor, agent, guest)
    names = dict(zip(_KINDS, chosen, strict=True))

    def check(kind: PluginKind, lifeline: int) -> list[HostCheck]:
        with workplace() as directory:
            arguments = [str(kind), *chosen, str(directory), str(timeout - _MARGIN)]
            lines, in_time = run_isolated(
                "vc_core.engine.driver_checks", arguments, timeout, lifeline, roots.environment
            )
        return _Printed.read(lines).checks_of(f"{kind.noun} {names[kind]}".strip(), how_it_ended(in_time, timeout))

    clear_abandoned()
    return [one for found in in_parallel(check, _KINDS) for one in found]


@dataclass(slots=True)
class _Printed:
    """What the process that checks a driver has printed."""

    source: str = ""
    step: str = "starting"
    checks: list[HostCheck] = field(default_factory=list)
    complete: bool = False

    @classmethod
    def read(cls, lines: list[str]) -> _Printed:
        printed = cls()
        for line in lines:
            match json.loads(line):
                case {"source": str(source)}:
                    printed.source = source
                case {"step": str(step)}:
                    printed.step = step
                case {"check": dict(check)}:
                    printed.checks.append(HostCheck(**{**check, "outcome": CheckOutcome(check["outcome"])}))
                case {}:
                    printed.complete = True
        return printed

    def checks_of(self, name: str, ended: str) -> list[HostCheck]:
        """Return the checks with their source; ``name``: of a driver that was not loaded."""
        if not self.complete:
            self.checks.append(
                HostCheck(
                    name="driver",
                    outcome=CheckOutcome.ERROR,
                    found=ended,
                    meaning=f"It {ended} in this step: {self.step}.",
                    remedy="repair or uninstall it",
                )
            )
        return [replace(check, source=self.source or name) for check in self.checks]


def _check(kind: PluginKind, config: PodConfig, directory: Path, timeout: float, emit: _Emit) -> None:
    """Check one of a pod's drivers in this process; ``directory``: an empty one to work in."""
    plugins, roots = Plugins(bare=True), Roots.from_environment()

    def step(name: str) -> None:
        emit({"step": name})

    def found(check: HostCheck) -> None:
        emit({"check": asdict(check)})

    try:
        step("loading it")
        name = _name(plugins, kind, config)
        if name is None:
            return
        driver = plugins.driver(kind, name)
        emit({"source": driver.label})
        step("finding the guest")
        request, kernel = _guest(plugins, config, roots) if kind is not PluginKind.AGENT else (None, None)
        step("vc_driver_probe")
        problems = driver.probe()
        found(_usable(driver, problems, kernel is not None))
        if problems and kind is not PluginKind.GUEST:
            return
        if kind is PluginKind.HYPERVISOR:
            step("vc_hypervisor_create")
            assembly.make_hypervisor(plugins, config, PodContext.of(config, roots.pod_run_dir(config.id)))
        step("vc_driver_check")
        host = HostContext(
            state_dir=roots.state,
            run_dir=roots.run,
            cache_dir=roots.cache,
            work_dir=directory,
            uuid=pod_uuid(directory),
            timeout=timeout,
            guest=request,
            kernel=kernel,
        )
        checks = driver.check_host(host)
        for check in checks or [_UNCHECKED] * (kind is PluginKind.HYPERVISOR):
            found(check)
    except VCError as error:
        found(_broken(error))


def _name(plugins: Plugins, kind: PluginKind, config: PodConfig) -> str | None:
    """Return the name of the driver of one kind that a pod uses; None if a broken hypervisor should name it."""
    match kind:
        case PluginKind.HYPERVISOR:
            return config.hypervisor_type
        case PluginKind.AGENT:
            return config.agent_type
    with suppress(VCError):
        return guest_image.guest_driver(plugins, config)
    return None


def _guest(plugins: Plugins, config: PodConfig, roots: Roots) -> tuple[GuestRequest | None, Path | None]:
    """Return what the pod's guest is built from and, if it is built, its kernel; None for what cannot be determined."""
    request = None
    with suppress(VCError):
        request = guest_image.request_in(plugins, config.agent_type, {}, guests_below(roots.cache))
        builder = guest_image.builder(plugins, guest_image.guest_driver(plugins, config), {})
        image = asyncio.run(builder.find(request))
        return request, image.kernel if image else None
    return request, None


def _usable(driver: Driver, problems: list[str], is_built: bool) -> HostCheck:
    """Return the line of a driver's probe. A guest that is built needs no builder that works."""
    if not problems:
        return HostCheck(
            name="driver",
            outcome=CheckOutcome.OK,
            found=f"{driver.distribution} is installed",
            meaning="It can be loaded, and finds what it needs on this host.",
        )
    serves = driver.kind is PluginKind.GUEST and is_built
    return HostCheck(
        name="driver",
        outcome=CheckOutcome.WARNING if serves else CheckOutcome.ERROR,
        found="cannot work here",
        meaning="The guest that is built works, but no other can be built." if serves else "No pod with it starts.",
        remedy="; ".join(problems),
    )


def _broken(error: VCError) -> HostCheck:
    return HostCheck(
        name="driver",
        outcome=CheckOutcome.ERROR,
        found="cannot be used",
        meaning=f"No pod with it starts: {error}.",
        remedy="choose another driver, or repair its distribution",
    )


#: The line of a hypervisor driver without vc_driver_check.
_UNCHECKED = HostCheck(
    name="jail",
    outcome=CheckOutcome.WARNING,
    found="not checked by this driver",
    meaning="How the process of a VM is confined is shown by the status of a pod only.",
    remedy="start a pod, and look at the line jail of: virtc pod status",
)


def main() -> None:
    """Check the driver that the arguments name, and print what it finds."""
    end_with_starter(int(sys.argv[1]))
    if os.geteuid() != 0:
        with suppress(PrivilegeError):  # which the lines of the host show
            namespaces.enter(None)  # as the supervisor of a pod does
    kind, hypervisor, agent, guest, directory, timeout = sys.argv[2:]
    config = PodConfig(
        id="check", hypervisor_type=hypervisor, agent_type=agent, hypervisor_config=HypervisorConfig(guest=guest)
    )
    with own_output() as out:

        def emit(line: dict[str, object]) -> None:
            print(json.dumps(line), file=out, flush=True)

        _check(PluginKind(kind), config, Path(directory), float(timeout), emit)
        emit({})


if __name__ == "__main__":
    main()
