"""MockHypervisor: a virtual machine that is a record in memory, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from enum import StrEnum

from vc_core.driver import (
    Channel,
    Device,
    Hypervisor,
    HypervisorCapability,
    PodContext,
    ProcessIdentity,
    SharedDirectory,
    VMExit,
)
from vc_core.errors import ConfigError, HypervisorError, StateError, VMStartError
from vc_hypervisor_mock.config import MockConfig


class _Phase(StrEnum):
    NEW = "new"
    PREPARED = "prepared"
    RUNNING = "running"
    ENDED = "ended"


class MockHypervisor(Hypervisor):
    """One pod's VM, which is a record in memory. ``saved`` holds only whether the VM has ended."""

    def __init__(self, pod: PodContext, config: MockConfig, saved: Mapping[str, object] | None) -> None:
        self._pod_id = pod.id
        self._config = config
        self._phase = _Phase.NEW
        self._ended = asyncio.Event()
        if saved is not None:
            self._phase = _Phase.ENDED if saved.get("ended") else _Phase.RUNNING
        if self._phase is _Phase.ENDED:
            self._ended.set()

    @property
    def capabilities(self) -> frozenset[HypervisorCapability]:
        """Return PAUSE and SHARED_DIRECTORIES; no guest reads the directories."""
        return frozenset({HypervisorCapability.PAUSE, HypervisorCapability.SHARED_DIRECTORIES})

    def add_device(self, device: Device) -> None:
        """Accept a shared directory. Raises ConfigError for another device, which needs a guest; StateError."""
        if isinstance(device, Channel):
            raise ConfigError(
                f"hypervisor mock has no guest at the other end of channel {device.name!r}; "
                "use an agent that needs no channel, such as noop"
            )
        if not isinstance(device, SharedDirectory):
            raise ConfigError(f"hypervisor mock has no guest that could use {device!r}; use another hypervisor")
        self._require(_Phase.NEW, "add a device")

    async def prepare(self, timeout: float) -> None:
        """Make the VM. Raises StateError; VMStartError with the option fail_prepare."""
        self._require(_Phase.NEW, "prepare")
        if self._config.fail_prepare:
            raise VMStartError(self._config.fail_prepare)
        self._phase = _Phase.PREPARED

    async def start(self, timeout: float) -> None:
        """Run the VM. Raises StateError; VMStartError with the option fail_start."""
        self._require(_Phase.PREPARED, "start")
        if self._config.fail_start:
            raise VMStartError(self._config.fail_start)
        self._phase = _Phase.RUNNING

    async def stop(self, timeout: float) -> None:
        """End the VM in any state. Raises HypervisorError with the option fail_stop."""
        if self._config.fail_stop:
            raise HypervisorError(self._config.fail_stop)
        self._phase = _Phase.ENDED
        self._ended.set()

    async def pause(self) -> None:
        """Pause the VM. Raises StateError; HypervisorError with the option fail_pause."""
        self._require(_Phase.RUNNING, "pause")
        if self._config.fail_pause:
            raise HypervisorError(self._config.fail_pause)

    async def resume(self) -> None:
        """Resume the VM, paused or not. Raises StateError; HypervisorError with the option fail_resume."""
        self._require(_Phase.RUNNING, "resume")
        if self._config.fail_resume:
            raise HypervisorError(self._config.fail_resume)

    async def wait(self) -> VMExit:
        """Return once :meth:`stop` of this object was called."""
        await self._ended.wait()
        return VMExit(expected=True, reason="the VM was stopped")

    def identity(self) -> ProcessIdentity | None:
        """Return None: there is no process."""
        return None

    def save(self) -> Mapping[str, object]:
        """Return whether the VM has ended."""
        return {"ended": self._phase is _Phase.ENDED}

    def _require(self, phase: _Phase, action: str) -> None:
        if self._phase is not phase:
            raise StateError(
                f"the VM of pod {self._pod_id} is {self._phase}; to {action} it must be {phase}",
                state=str(self._phase),
                wanted=[str(phase)],
            )
