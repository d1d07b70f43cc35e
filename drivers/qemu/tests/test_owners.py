"""A VM in a real QEMU that another process started, and records of such VMs."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from qemu_vms import Make, Owner, left_in

from vc_core.driver import (
    Boot,
    ProcessIdentity,
    VMExit,
)
from vc_core.errors import HypervisorError
from vc_core.testing.slowness import within
from waiting import PATIENCE

pytestmark = pytest.mark.slow


def test_another_process_takes_over_a_vm_whose_owner_was_killed(make: Make, owner: Owner, unbootable: Boot) -> None:
    child, saved = owner(unbootable)
    child.kill()
    child.wait()

    async def run() -> None:
        hypervisor = make(boot=None, saved=saved)
        assert hypervisor.save() == saved
        assert hypervisor.acceleration == "tcg"
        waiting = asyncio.create_task(hypervisor.wait())
        (await hypervisor.open_channel("test")).close()
        await hypervisor.pause()
        await hypervisor.stop(10)
        assert await waiting == VMExit(True, "QEMU was asked to quit")
        await hypervisor.aclose()

    asyncio.run(run())


def test_the_end_of_a_vm_that_another_process_started_is_noticed(make: Make, owner: Owner, unbootable: Boot) -> None:
    child, saved = owner(unbootable)
    child.kill()
    child.wait()

    async def run() -> None:
        hypervisor = make(boot=None, saved=saved)
        waiting = asyncio.create_task(hypervisor.wait())
        await asyncio.sleep(0)
        os.kill(saved["process"]["pid"], signal.SIGKILL)
        with within(1):
            async with asyncio.timeout(PATIENCE):
                vm_exit = await waiting
        assert vm_exit == VMExit(False, "QEMU ended, and only its parent can learn its exit status")
        await hypervisor.stop(1)
        await hypervisor.aclose()

    asyncio.run(run())


def test_a_vm_can_be_stopped_while_another_owner_holds_its_monitor(make: Make, owner: Owner, unbootable: Boot) -> None:
    child, saved = owner(unbootable)

    async def run() -> None:
        hypervisor = make(boot=None, saved=saved)
        await hypervisor.stop(4)
        await hypervisor.aclose()

    asyncio.run(run())
    assert child.stdout is not None
    assert b"terminating on signal 15" in child.stdout.readline()
    assert child.wait(PATIENCE) == 0


def test_a_vm_that_ended_while_no_process_watched_it_counts_as_ended(
    make: Make, owner: Owner, unbootable: Boot, tmp_path: Path
) -> None:
    child, saved = owner(unbootable)
    os.kill(saved["process"]["pid"], signal.SIGKILL)
    assert child.wait(PATIENCE) == 0

    async def run() -> None:
        hypervisor = make(boot=None, saved=saved)
        assert await hypervisor.wait() == VMExit(False, "QEMU ended while no process watched it")
        with pytest.raises(HypervisorError, match="has ended"):
            await hypervisor.open_channel("test")
        await hypervisor.stop(1)
        await hypervisor.aclose()

    asyncio.run(run())
    assert left_in(tmp_path) == ["console.log", "qemu.log"]


@pytest.mark.parametrize("changed", [{"boot_id": "another boot"}, {"start_time": 1}])
def test_a_process_that_only_has_the_same_pid_is_not_signalled(make: Make, changed: dict[str, object]) -> None:
    identity = ProcessIdentity.of(os.getpid())
    assert identity is not None
    saved = {"process": {**identity.to_mapping(), **changed}, "acceleration": "tcg", "channels": {}}

    async def run() -> None:
        hypervisor = make(boot=None, saved=saved)
        await hypervisor.stop(1)
        assert (await hypervisor.wait()).reason == "QEMU ended while no process watched it"

    asyncio.run(run())


@pytest.mark.parametrize("saved", [{"process": 1}, {"process": {}, "channels": {}}, {"process": {}, "channels": []}])
def test_a_damaged_record_is_refused(make: Make, saved: dict[str, object]) -> None:
    with pytest.raises(HypervisorError, match="saved state of the VM of pod 'p1' is damaged"):
        make(saved=saved)
