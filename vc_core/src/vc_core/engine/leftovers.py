"""Lets a driver discard the VM of a start that was interrupted.

``python -m vc_core.engine.leftovers POD`` does it in a process of its own, for a forced delete, because the driver may
hang; it prints why it failed.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NoReturn

from vc_core.config.pod import PodConfig
from vc_core.driver.context import PodContext
from vc_core.driver.hypervisor import HypervisorCapability
from vc_core.engine import assembly
from vc_core.errors import VCError

if TYPE_CHECKING:
    from vc_core.plugins.registry import Plugins

#: Seconds for a driver to end a VM that it does not have on record.
DISCARD_TIMEOUT = 10.0


async def discard(plugins: Plugins, config: PodConfig, pod: PodContext) -> None:
    """Let the pod's hypervisor end what an earlier process made and did not record, if it has Capability DISCARD.

    Raises ConfigError, DriverError, HypervisorError.
    """
    hypervisor = assembly.make_hypervisor(plugins, config, pod)
    try:
        if HypervisorCapability.DISCARD in hypervisor.capabilities:
            await hypervisor.discard(DISCARD_TIMEOUT)
    finally:
        await hypervisor.aclose()


def main(pod_id: str) -> None:
    """Discard the VM of a pod that is being deleted by force; print a sentence if that fails."""
    from vc_core.plugins import event_loop
    from vc_core.plugins.registry import Plugins
    from vc_core.store.store import Store

    try:
        store = Store.here()
        pod = PodContext.of(config := store.read_config(pod_id), store.roots.pod_run_dir(pod_id))
        event_loop.run(discard(Plugins(), config, pod), event_loop.Watchdog(_fail))
    except VCError as error:
        _fail(error)
    os._exit(0)  # without the threads of a driver that hang


def _fail(error: VCError) -> NoReturn:
    os.write(1, f"{error}\n".encode())
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1])
