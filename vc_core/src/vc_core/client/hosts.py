"""The operation of the API that checks this host."""

from __future__ import annotations

from dataclasses import replace

from vc_core.client.interpreters import InThread, Operation
from vc_core.engine.driver_checks import check_drivers
from vc_core.errors import ConfigError
from vc_core.host import checks
from vc_core.host_report import HostReport
from vc_core.store.roots import Roots
from vc_core.store.settings import PodDefaults, read_settings

#: The source of the lines of the core itself.
_HOST = "host"


def check_host(hypervisor: str, agent: str, guest: str) -> Operation[HostReport]:
    """Return what this host offers to pods of these drivers; "" is the one that a pod has whose caller names none.

    Raises StorageError for roots whose names are not valid.
    """

    def look() -> HostReport:
        roots = Roots.from_environment()
        own = [replace(one, source=_HOST) for one in checks.check_host(roots)]
        try:
            defaults = read_settings(roots.environment).pod
        except ConfigError:  # which has a line in the report
            defaults = PodDefaults()
        drivers = check_drivers(hypervisor or defaults.hypervisor, agent or defaults.agent, guest, roots)
        return HostReport.of([*own, *drivers])

    report: HostReport = yield InThread(look)
    return report
