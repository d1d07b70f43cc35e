"""The base class of hypervisors whose VM is a process, tried with a process that sleeps."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest

from vc_core.driver import (
    ControlledVM,
    Device,
    HypervisorCapability,
    HypervisorConfig,
    PodContext,
    ProcessHypervisor,
    ProcessIdentity,
    Resources,
    VMExit,
    VMProcess,
    vm_process,
)
from vc_core.errors import HypervisorError, StateError, VMStartError
from waiting import PATIENCE


class NapVM(ControlledVM):
    def __init__(self, pidfd: int) -> None:
        self._process, self._stopping = VMProcess(pidfd), False

    @property
    def alive(self) -> bool:
        return not self._process.ended.done()

    async def wait(self) -> VMExit:
        await asyncio.wait({self._process.ended})
        if self._process.ended.cancelled():
            raise HypervisorError("closed")
        return VMExit(self._stopping, self._process.ended.result())

    async def end(self, timeout: float) -> None:
        self._stopping = True
        self._process.signal(9)
        await self._process.wait(timeout)

    def kill(self) -> None:
        self._process.kill()

    async def aclose(self) -> None:
        self._process.close()


class Nap(ProcessHypervisor[NapVM]):
    program = "sleep"

    def __init__(self, pod: PodContext, process: ProcessIdentity | None = None) -> None:
        super().__init__(pod)
        self.process = process
        self.cleaned: list[str] = []
        self.failing: BaseException | None = None

    @property
    def capabilities(self) -> frozenset[HypervisorCapability]:
        return frozenset({HypervisorCapability.PROCESS})

    def add_device(self, device: Device) -> None:
        self._require_new("add a device")

    async def prepare(self, timeout: float) -> None:
        self._require_new("prepare it")
        async with self._undoing():
            pid, pidfd = vm_process.spawn(["/bin/sleep", "1000"], self._pod.run_dir, subprocess.DEVNULL, ())
            self._vm, self.started = NapVM(pidfd), ProcessIdentity.of(pid)
            if self.failing:
                raise self.failing
        self.process = self.started

    async def start(self, timeout: float) -> None:
        self._controlled("start it")

    def identity(self) -> ProcessIdentity | None:
        return self.process

    def save(self) -> Mapping[str, object]:
        return {}

    def _take_over(self, pidfd: int) -> NapVM:
        return NapVM(pidfd)

    def _remove_files(self) -> None:
        self.cleaned.append("files")

    def _discard_logs(self) -> None:
        self.cleaned.append("logs")


def run(tmp_path: Path, test: Callable[[PodContext], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(PATIENCE):
            await test(PodContext("p1", "uuid", tmp_path, tmp_path / "share", Resources(), HypervisorConfig()))

    asyncio.run(main())


def test_stop_ends_the_process_and_removes_the_files_but_not_the_logs(tmp_path: Path) -> None:
    async def test(pod: PodContext) -> None:
        vm = Nap(pod)
        await vm.prepare(5)
        await vm.stop(5)
        assert (await vm.wait()).expected
        assert vm.cleaned == ["files"]
        await vm.stop(5)

    run(tmp_path, test)


@pytest.mark.parametrize(
    ("failure", "raised"), [(OSError("no room"), VMStartError), (HypervisorError("no"), HypervisorError)]
)
def test_a_failed_prepare_kills_the_process_and_removes_files_and_logs(
    tmp_path: Path, failure: Exception, raised: type[Exception]
) -> None:
    async def test(pod: PodContext) -> None:
        vm = Nap(pod)
        vm.failing = failure
        with pytest.raises(raised, match="no"):
            await vm.prepare(5)
        assert vm.started is not None
        assert not vm.started.alive()
        assert vm.cleaned == ["files", "logs"]

    run(tmp_path, test)


def test_another_object_takes_over_a_process_that_runs_on_after_a_close(tmp_path: Path) -> None:
    async def test(pod: PodContext) -> None:
        first = Nap(pod)
        await first.prepare(5)
        await first.aclose()
        second = Nap(pod, first.process)
        await second.start(5)
        await second.stop(5)
        assert first.process is not None
        assert not first.process.alive()

    run(tmp_path, test)


def test_devices_and_prepare_come_before_the_vm_is_made(tmp_path: Path) -> None:
    async def test(pod: PodContext) -> None:
        vm = Nap(pod)
        await vm.prepare(5)
        with pytest.raises(StateError, match="'p1' has been made already; it is too late to prepare it"):
            await vm.prepare(5)
        await vm.stop(5)

    run(tmp_path, test)


def test_a_vm_that_ended_before_it_was_taken_over_has_ended(tmp_path: Path) -> None:
    async def test(pod: PodContext) -> None:
        vm = Nap(pod, ProcessIdentity(2**22, 1, "another boot"))
        assert await vm.wait() == VMExit(False, "sleep ended while no process watched it")
        with pytest.raises(HypervisorError, match="has ended; to start it it must be running"):
            await vm.start(5)
        await vm.stop(5)

    run(tmp_path, test)
