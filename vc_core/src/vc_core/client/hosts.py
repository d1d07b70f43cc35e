"""The operation of the API that checks this host."""

from __future__ import annotations

from dataclasses import replace

from vc_core.client.interpreters import InThread, Operation
from vc_core.engine.driver_checks import check_drivers
from vc_core.host import checks
from vc_core.results import HostReport
from vc_core.store.roots import Roots

#: The source of the lines of the core itself.
_HOST = "host"


def check_host(hypervisor: str, agent: str, guest: str) -> Operation[HostReport]:
    """Return what this host offers to pods of these drivers; ``guest`` is "" for the builder that the hypervisor names.

    Raises StorageError for roots whose names are not valid.
    """

    def look() -> HostReport:
        roots = Roots.from_environment()
        own = [replace(one, source=_HOST) for one in checks.check_host(roots)]
        return HostReport.of([*own, *check_drivers(hypervisor, agent, guest, roots)])

    report: HostReport = yield InThread(look)
    return report
