"""A machine: what is raised when its VM ends during some work, and how it is taken down."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

import vc_core as vc
from vc_core.driver.agent import GuestProcessId
from vc_core.driver.hypervisor import VMExit
from vc_core.engine.machine import Machine
from vc_core.errors import AgentConnectError, AgentError, HypervisorError, VMStartError
from vc_core.store.records import PodRecord
from vc_core.testing.slowness import scaled

#: Seconds for what happens at once.
TIMEOUT = scaled(30.0)


class FakeHypervisor:
    """A VM that ends when the test ends it; its console has two lines."""

    def __init__(self) -> None:
        self.exit: asyncio.Future[VMExit] = asyncio.get_running_loop().create_future()
        self.stopped = False

    async def wait(self) -> VMExit:
        return await asyncio.shield(self.exit)

    async def stop(self, timeout: float) -> None:
        self.stopped = True

    def console_tail(self) -> str:
        return "Booting\n\nKernel panic\n"

    def end(self) -> None:
        self.exit.set_result(VMExit(False, "it was killed"))


class FakeAgent:
    """Starts commands that do not end; notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def exec(self, container_id: str, *_: object) -> GuestProcessId:
        return GuestProcessId(container_id, "1")

    async def wait(self, process: GuestProcessId) -> int:
        await asyncio.Event().wait()
        raise AssertionError

    async def signal(self, process: GuestProcessId, signum: int, timeout: float) -> None:
        self.asked.append(f"signal {signum}")

    async def stop_pod(self, timeout: float) -> None:
        self.asked.append("stop")


class FakeLedger:
    """The record of a pod."""

    name = "pod 'p1'"

    def __init__(self, intent: str = "", supervised: bool = True) -> None:
        self.record = PodRecord(
            id="p1", hypervisor="h", agent="a", supervised=supervised, created_at=0.0, intent=intent
        )


class Made:
    """A machine with fakes, and the task that waits for its VM's end."""

    def __init__(self, **record: Any) -> None:
        self.hypervisor, self.agent = FakeHypervisor(), FakeAgent()
        self.machine = Machine(FakeLedger(**record), self.hypervisor, self.agent)  # type: ignore[arg-type]
        self.watch = asyncio.create_task(self.machine.wait())

    async def never(self) -> None:
        await asyncio.Event().wait()

    async def lost(self) -> None:
        self.hypervisor.end()
        raise AgentConnectError("the channel is closed")


def run(work: Coroutine[Any, Any, None]) -> None:
    async def timed() -> None:
        async with asyncio.timeout(TIMEOUT):
            await work

    asyncio.run(timed())


def test_work_that_the_vm_does_not_survive_ends_with_the_reason_of_the_vm() -> None:
    async def work() -> None:
        made = Made()
        waiting = asyncio.ensure_future(made.machine.while_alive(made.never()))
        await asyncio.sleep(0)
        made.hypervisor.end()
        with pytest.raises(HypervisorError, match=r"^the VM of pod 'p1' ended: it was killed$"):
            await waiting

    run(work())


def test_a_channel_that_breaks_as_the_vm_ends_is_reported_as_the_end_of_the_vm() -> None:
    async def work() -> None:
        made = Made()
        with pytest.raises(HypervisorError, match="it was killed"):
            await made.machine.while_alive(made.lost())

    run(work())


def test_a_channel_that_breaks_while_the_vm_lives_is_reported_as_that() -> None:
    async def broken() -> None:
        raise AgentConnectError("the channel is closed")

    async def work() -> None:
        made = Made()
        with pytest.raises(AgentError, match="the channel is closed"):
            await made.machine.while_alive(broken())
        made.watch.cancel()

    run(work())


def test_a_vm_that_ends_during_its_start_is_reported_with_its_console() -> None:
    async def work() -> None:
        made = Made(intent="start")
        with pytest.raises(VMStartError, match=r"killed; the guest's console ends with: Booting \| Kernel panic"):
            await made.machine.while_alive(made.lost())

    run(work())


async def cancel(running: asyncio.Task[int]) -> None:
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


def test_a_command_whose_caller_is_cancelled_is_killed() -> None:
    async def work() -> None:
        made, started = Made(), asyncio.Event()
        command = vc.Cmd(args=["sleep"])
        running = asyncio.create_task(made.machine.exec("c1", command, None, None, lambda _: started.set()))  # type: ignore[arg-type]
        await started.wait()
        await cancel(running)
        assert made.agent.asked == ["signal 9"]
        made.watch.cancel()

    run(work())


def test_a_command_whose_caller_is_cancelled_when_the_guest_has_started_it_is_killed() -> None:
    async def work() -> None:
        made, asked = Made(), asyncio.Event()

        async def exec_(container_id: str, *_: object) -> GuestProcessId:
            asked.set()
            await asyncio.sleep(0)  # the answer is under way
            return GuestProcessId(container_id, "1")

        made.agent.exec = exec_  # type: ignore[method-assign]
        running = asyncio.create_task(made.machine.exec("c1", vc.Cmd(["sleep"]), None, None, None))  # type: ignore[arg-type]
        await asked.wait()
        await cancel(running)
        assert made.agent.asked == ["signal 9"]
        made.watch.cancel()

    run(work())


def test_a_start_of_a_command_that_the_guest_does_not_answer_is_cancelled_with_its_caller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vc_core.engine.machine._START_GRACE", 0.0)

    async def work() -> None:
        made, asked = Made(), asyncio.Event()

        async def exec_(container_id: str, *_: object) -> GuestProcessId:
            asked.set()
            await made.never()
            raise AssertionError

        made.agent.exec = exec_  # type: ignore[method-assign]
        running = asyncio.create_task(made.machine.exec("c1", vc.Cmd(["sleep"]), None, None, None))  # type: ignore[arg-type]
        await asked.wait()
        await cancel(running)
        assert made.agent.asked == []
        made.watch.cancel()

    run(work())


@pytest.mark.parametrize(
    ("supervised", "ask_guest", "asked"), [(True, True, ["stop"]), (True, False, []), (False, False, ["stop"])]
)
def test_a_guest_is_asked_to_stop_if_wanted_or_if_it_does_not_end_with_a_process(
    supervised: bool, ask_guest: bool, asked: list[str]
) -> None:
    async def work() -> None:
        made = Made(supervised=supervised)
        await made.machine.take_down(1.0, ask_guest)
        assert made.agent.asked == asked
        assert made.hypervisor.stopped
        made.watch.cancel()

    run(work())


def test_commands_start_one_after_the_other_however_many_are_to_start_at_once() -> None:
    async def main() -> None:
        made, starting, most = Made(), 0, 0

        async def exec_(container_id: str, *_: object) -> GuestProcessId:
            nonlocal starting, most
            starting += 1
            most = max(most, starting)
            await asyncio.sleep(0)
            starting -= 1
            return GuestProcessId(container_id, "1")

        async def wait(process: GuestProcessId) -> int:
            return 0

        made.agent.exec, made.agent.wait = exec_, wait  # type: ignore[method-assign]
        work = [made.machine.exec("c1", vc.Cmd(["true"]), None, None, None) for _ in range(20)]  # type: ignore[arg-type]
        assert await asyncio.gather(*work) == [0] * 20
        assert most == 1
        made.hypervisor.end()
        await made.watch

    asyncio.run(main())
