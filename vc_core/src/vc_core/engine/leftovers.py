"""Lets a driver discard the VM of a start that was interrupted, and what a VM left that was killed.

``python -m vc_core.engine.leftovers POD`` does it in a process of its own, for a forced delete, because the driver may
hang; it prints why it failed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from vc_core.config.pod import PodConfig
from vc_core.driver.context import PodContext
from vc_core.driver.hypervisor import HypervisorCapability
from vc_core.engine import assembly
from vc_core.errors import StorageError, VCError

if TYPE_CHECKING:
    from vc_core.plugins.registry import Plugins
    from vc_core.store.store import Store

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


async def remove_remains(
    plugins: Plugins, config: PodConfig, pod: PodContext, saved: Mapping[str, object] | None
) -> None:
    """Let the pod's hypervisor remove what a VM whose processes have ended left, such as control groups.

    ``saved``: what the pod's record has of that VM, None for one that an interrupted start did not record. Raises
    ConfigError, DriverError, HypervisorError.
    """
    hypervisor = assembly.make_hypervisor(plugins, config, pod, saved)
    try:
        await hypervisor.stop(DISCARD_TIMEOUT)
    finally:
        await hypervisor.aclose()


def main(pod_id: str) -> None:
    """Discard the VM of a pod whose processes were killed; print a sentence if that fails."""
    from vc_core.plugins import event_loop
    from vc_core.plugins.registry import Plugins
    from vc_core.store.store import Store

    try:
        store = Store.here()
        pod = PodContext.of(config := store.read_config(pod_id), store.roots.pod_run_dir(pod_id))
        plugins = Plugins()

        async def work() -> None:
            await discard(plugins, config, pod)
            await remove_remains(plugins, config, pod, _saved(store, pod_id))

        event_loop.run(work(), event_loop.Watchdog(_fail))
    except VCError as error:
        _fail(error)
    os._exit(0)  # without the threads of a driver that hang


def _saved(store: Store, pod_id: str) -> Mapping[str, object] | None:
    """Return what the record has of the VM; None for one that is not recorded, and for a record that is broken."""
    with suppress(StorageError):
        return store.read(pod_id).saved_hypervisor
    return None


def _fail(error: VCError) -> NoReturn:
    os.write(1, f"{error}\n".encode())
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1])
