"""The operations of the API that check this host, and what it can give to a container."""

from __future__ import annotations

from dataclasses import replace

from vc_core.client.interpreters import InThread, Operation
from vc_core.errors import ConfigError
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
        from vc_core.engine.driver_checks import check_drivers  # here, because each start of an engine's container
        from vc_core.host import checks  # calls check_writable_root, which needs neither

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


def check_writable_root(root_fs: str) -> Operation[None]:
    """Refuse a directory that no container can have as a root that it writes to. Raises ConfigError, StorageError."""

    def look() -> None:
        from vc_core.host import sources
        from vc_core.host.paths import Rules

        sources.check_writable_root(root_fs, Rules(Roots.from_environment()))

    yield InThread(look)
