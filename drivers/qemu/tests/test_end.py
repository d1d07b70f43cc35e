"""The end of a VM in a real QEMU, asked for or not; its CPUs stay stopped, so no guest runs here."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from qemu_vms import Make, left_in, live, pid_of

from needs import require
from vc_core.driver import Boot, Channel, VMExit
from vc_core.errors import HypervisorError, VMStartError
from vc_core.testing.slowness import within
from waiting import PATIENCE

pytestmark = pytest.mark.slow


def test_stop_ends_the_vm_and_leaves_only_its_logs(make: Make, tmp_path: Path) -> None:
    hypervisor = make()
    place = tmp_path / "chosen.sock"
    hypervisor.add_device(Channel("c0", "test", place))

    async def use(pid: int) -> None:
        await hypervisor.stop(10)
        assert not Path(f"/proc/{pid}").exists()
        assert await hypervisor.wait() == VMExit(expected=True, reason="QEMU was asked to quit")
        assert left_in(tmp_path) == ["console.log", "qemu.log"]
        assert not place.exists()

    live(hypervisor, use)


def test_stop_can_be_called_in_every_state(make: Make) -> None:
    async def run() -> None:
        hypervisor = make()
        await hypervisor.stop(1)
        await hypervisor.prepare(60)
        await hypervisor.stop(10)
        await hypervisor.stop(10)
        await hypervisor.aclose()
        await hypervisor.aclose()

    asyncio.run(run())


@pytest.mark.promise("T05")
def test_a_frozen_qemu_is_killed_within_the_timeout(make: Make) -> None:
    hypervisor = make()

    async def use(pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        with within(2):
            await hypervisor.stop(2)
        assert await hypervisor.wait() == VMExit(True, "QEMU was killed by SIGKILL")

    live(hypervisor, use)


def test_closing_the_object_of_a_frozen_qemu_returns(make: Make) -> None:
    async def run() -> None:
        hypervisor = make()
        await hypervisor.prepare(60)
        os.kill(pid_of(hypervisor), signal.SIGSTOP)
        pausing = asyncio.create_task(hypervisor.pause())
        await asyncio.sleep(0)
        with within(1):
            async with asyncio.timeout(PATIENCE):
                await hypervisor.aclose()
        with pytest.raises(HypervisorError):
            await pausing
        later = make(saved=hypervisor.save())
        await later.stop(2)
        await later.aclose()

    asyncio.run(run())


@pytest.mark.promise("T04")
def test_all_waits_return_within_a_second_after_qemu_was_killed(make: Make) -> None:
    hypervisor = make()
    hypervisor.add_device(Channel("c0", "test"))

    async def use(pid: int) -> None:
        waiting = [asyncio.create_task(hypervisor.wait()) for _ in range(3)]
        with await hypervisor.open_channel("test") as channel:
            await hypervisor.pause()  # QEMU has looked at its sockets
            os.kill(pid, signal.SIGKILL)
            with within(1):
                async with asyncio.timeout(PATIENCE):
                    (vm_exit,) = set(await asyncio.gather(*waiting))
                    assert await asyncio.get_running_loop().sock_recv(channel, 1) == b""
        assert await hypervisor.wait() == vm_exit
        assert not vm_exit.expected
        assert vm_exit.reason.startswith("QEMU was killed by SIGKILL")
        for refused in (hypervisor.pause, hypervisor.resume, lambda: hypervisor.open_channel("test")):
            with pytest.raises(HypervisorError, match="has ended"):
                await refused()

    live(hypervisor, use)


def test_the_reason_of_a_terminated_qemu_contains_its_message_about_the_signal(make: Make) -> None:
    hypervisor = make()

    async def use(pid: int) -> None:
        os.kill(pid, signal.SIGTERM)
        vm_exit = await hypervisor.wait()
        assert not vm_exit.expected
        assert vm_exit.reason.startswith("QEMU exited with status 0: qemu-system-x86_64: terminating on signal 15")

    live(hypervisor, use)


def test_starting_a_vm_that_has_ended_is_an_error_that_says_so(make: Make) -> None:
    hypervisor = make()

    async def use(pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        with pytest.raises((VMStartError, HypervisorError), match=r"killed by SIGKILL|has ended"):
            await hypervisor.start(60)

    live(hypervisor, use)


def test_closing_the_object_leaves_the_vm_and_ends_all_waits(make: Make) -> None:
    async def run() -> None:
        hypervisor = make()
        await hypervisor.prepare(60)
        waiting = asyncio.create_task(hypervisor.wait())
        await asyncio.sleep(0)
        await hypervisor.aclose()
        with pytest.raises(HypervisorError, match="was closed"):
            await waiting
        identity = hypervisor.identity()
        assert identity is not None
        assert identity.alive()
        later = make(saved=json.loads(json.dumps(hypervisor.save())))
        await later.stop(10)
        await later.aclose()
        assert not identity.alive()

    asyncio.run(run())


@pytest.mark.promise("T01")
def test_two_hundred_vms_in_a_row_leave_no_descriptors_threads_or_memory(unbootable: Boot, tmp_path: Path) -> None:
    """These are counted after each life, in a process that nothing else has left anything in (lives.py).

    The census of each test counts processes, too.
    """
    require("qemu")
    run_dir = tmp_path / "run" / "p1"
    run_dir.mkdir(mode=0o700, parents=True)
    script = Path(__file__).with_name("lives.py")
    command = [sys.executable, str(script), "200", *map(str, (run_dir, unbootable.kernel, unbootable.image))]
    # Else the C library gives each thread memory of its own, and when asyncio makes its threads depends on the host.
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}
    lives = subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=True).stdout.splitlines()
    descriptors, threads, memory = zip(*map(json.loads, lives), strict=True)
    assert len(memory) == 200
    assert len(set(descriptors)) == 1
    assert max(threads) - min(threads) < 10  # asyncio's pool makes another one while none is idle
    assert memory[-1] - memory[20] <= 180 * 4096  # what a life leaves is a few objects at least
