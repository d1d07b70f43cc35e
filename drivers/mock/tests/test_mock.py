"""The hypervisor ``mock``, through the plug-in machinery as the core uses it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest

from vc_core.driver import (
    Channel,
    Hypervisor,
    HypervisorCapability,
    HypervisorConfig,
    PodContext,
    Resources,
    SharedDirectory,
)
from vc_core.errors import ConfigError, HypervisorError, NotSupportedError, StateError, VMStartError
from vc_core.testing import Plugins
from vc_hypervisor_mock import MockConfig

DRIVER = Plugins().hypervisor("mock")


def make(
    tmp_path: Path, options: Mapping[str, object] | None = None, saved: Mapping[str, object] | None = None
) -> Hypervisor:
    pod = PodContext("p1", "uuid", tmp_path, tmp_path, Resources(), HypervisorConfig())
    return DRIVER.create(pod, DRIVER.config(options or {}), saved)


async def started(tmp_path: Path, options: Mapping[str, object] | None = None) -> Hypervisor:
    vm = make(tmp_path, options)
    await vm.prepare(1)
    await vm.start(1)
    return vm


def test_options_become_the_configuration() -> None:
    assert DRIVER.config({"fail_stop": "stuck"}) == MockConfig(fail_stop="stuck")


@pytest.mark.parametrize(("options", "text"), [({"fail": "x"}, "no option 'fail'"), ({"fail_stop": 1}, "fail_stop")])
def test_a_bad_option_is_named(options: Mapping[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        DRIVER.config(options)


def test_the_driver_is_usable_everywhere() -> None:
    assert DRIVER.probe() == []


def test_a_vm_lives_from_prepare_to_stop_and_leaves_nothing_on_disk(tmp_path: Path) -> None:
    async def life() -> None:
        vm = make(tmp_path)
        vm.add_device(SharedDirectory("share", tmp_path))
        await vm.prepare(1)
        assert vm.identity() is None
        await vm.start(1)
        await vm.pause()
        await vm.resume()
        ended = asyncio.create_task(vm.wait())
        await asyncio.sleep(0)
        assert not ended.done()
        await vm.stop(1)
        assert (await ended).expected
        assert (await vm.wait()).expected
        await vm.aclose()

    asyncio.run(life())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("steps", [[], ["prepare"], ["prepare", "start"], ["prepare", "start", "stop"]])
def test_stop_accepts_every_state(tmp_path: Path, steps: list[str]) -> None:
    async def life() -> None:
        vm = make(tmp_path)
        for step in steps:
            await getattr(vm, step)(1)
        await vm.stop(1)
        assert (await vm.wait()).expected

    asyncio.run(life())


def test_steps_out_of_order_are_refused(tmp_path: Path) -> None:
    async def start_twice() -> None:
        await (await started(tmp_path)).start(1)

    async def pause_after_stop() -> None:
        vm = await started(tmp_path)
        await vm.stop(1)
        await vm.pause()

    for steps in (make(tmp_path).start(1), make(tmp_path).pause(), start_twice(), pause_after_stop()):
        with pytest.raises(StateError):
            asyncio.run(steps)


def test_another_process_pauses_resumes_and_stops_the_same_vm(tmp_path: Path) -> None:
    async def life() -> None:
        first = make(tmp_path)
        await first.prepare(1)
        saved = json.loads(json.dumps(first.save()))  # what the core commits, before it starts the VM
        await first.start(1)
        second = make(tmp_path, saved=saved)
        await second.pause()
        third = make(tmp_path, saved=json.loads(json.dumps(second.save())))
        await third.resume()
        await third.stop(1)
        fourth = make(tmp_path, saved=json.loads(json.dumps(third.save())))
        assert (await asyncio.wait_for(fourth.wait(), 20)).expected

    asyncio.run(life())


FAILURES: list[tuple[str, type[Exception], Callable[[Hypervisor], Awaitable[None]]]] = [
    ("fail_prepare", VMStartError, lambda vm: vm.prepare(1)),
    ("fail_start", VMStartError, lambda vm: vm.start(1)),
    ("fail_stop", HypervisorError, lambda vm: vm.stop(1)),
    ("fail_pause", HypervisorError, lambda vm: vm.pause()),
    ("fail_resume", HypervisorError, lambda vm: vm.resume()),
]


@pytest.mark.parametrize(("option", "error", "step"), FAILURES)
def test_each_step_fails_on_request(
    tmp_path: Path, option: str, error: type[Exception], step: Callable[[Hypervisor], Awaitable[None]]
) -> None:
    async def life() -> None:
        vm = make(tmp_path, {option: "the disk is on fire"})
        if option != "fail_prepare":
            await vm.prepare(1)
            if option != "fail_start":
                await vm.start(1)
        with pytest.raises(error, match="the disk is on fire"):
            await step(vm)

    asyncio.run(life())


def test_devices_and_methods_match_the_capabilities(tmp_path: Path) -> None:
    vm = make(tmp_path)
    assert HypervisorCapability.PROCESS not in vm.capabilities
    assert HypervisorCapability.CHANNELS not in vm.capabilities
    with pytest.raises(ConfigError, match=r"sh\.hyper\.channel\.0"):
        vm.add_device(Channel("ctl", "sh.hyper.channel.0"))
    with pytest.raises(NotSupportedError):
        asyncio.run(vm.open_channel("sh.hyper.channel.0"))
    assert (vm.isolation, vm.acceleration) == ("none", "none")


@pytest.mark.slow
def test_thousands_of_vms_are_cheap(tmp_path: Path) -> None:
    async def lives() -> None:
        for _ in range(5000):
            await (await started(tmp_path)).stop(1)

    begun = time.process_time()
    asyncio.run(lives())
    assert time.process_time() - begun < 15  # CPU seconds; measured 5, of the limits of the driver's hook
