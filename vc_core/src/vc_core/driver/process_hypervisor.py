"""The base class of hypervisors whose VM is a process of the host: starts it, finds it again, and ends it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import ClassVar, Generic, TypeVar

from vc_core.driver.context import PodContext
from vc_core.driver.hypervisor import Hypervisor, VMExit
from vc_core.errors import HypervisorError, StateError, VCError, VMStartError


class ControlledVM(ABC):
    """A VM's process with all that its present owner has open to it. Lives in one event loop.

    A :class:`ProcessHypervisor` makes one when it starts the process, and each later owner makes another.
    """

    @property
    @abstractmethod
    def alive(self) -> bool:
        """Whether the process has not ended, as far as the event loop has seen."""

    @abstractmethod
    async def wait(self) -> VMExit:
        """Return when the VM has ended. Raises HypervisorError when this object is closed before."""

    @abstractmethod
    async def end(self, timeout: float) -> None:
        """End the VM within ``timeout`` seconds; :meth:`wait` then calls its end expected.

        Raises HypervisorError when the process is still there after that.
        """

    @abstractmethod
    def kill(self) -> None:
        """End the process at once. Blocks until it has ended, so that no cancellation comes between."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close what is open; the VM runs on. May be called again."""


_VM = TypeVar("_VM", bound=ControlledVM)


class ProcessHypervisor(Hypervisor, Generic[_VM]):
    """A hypervisor whose VM is a process that outlives this object.

    A subclass sets ``_vm`` in its ``prepare``, inside of ``async with self._undoing()``, and then returns the process
    from ``identity``. Every other method reaches the VM through :meth:`_attached` or :meth:`_controlled`.
    """

    #: The name of the program in sentences.
    program: ClassVar[str]

    def __init__(self, pod: PodContext) -> None:
        self._pod = pod
        self._vm: _VM | None = None

    @abstractmethod
    def _take_over(self, pidfd: int) -> _VM:
        """Return the VM whose process is :meth:`identity`. Called once it is found alive; the pidfd is used up."""

    @abstractmethod
    def _remove_files(self) -> None:
        """Remove the files of the VM except its logs. Called after its process has ended. Raises OSError."""

    @abstractmethod
    def _discard_logs(self) -> None:
        """Remove the VM's logs. Called when ``prepare`` has failed. Raises OSError."""

    async def stop(self, timeout: float) -> None:
        """End the VM's process and remove its files except the logs. Raises HypervisorError."""
        vm = self._attached()
        if vm is not None:
            await vm.end(timeout)
            await vm.aclose()
        try:
            self._remove_files()
        except OSError as error:
            raise HypervisorError(f"the files of the VM of pod {self._pod.id!r} cannot be removed: {error}") from error

    async def wait(self) -> VMExit:
        """Return when the process has ended. Raises HypervisorError when this object is closed before."""
        vm = self._attached()
        if vm is None:
            return VMExit(expected=False, reason=f"{self.program} ended while no process watched it")
        return await vm.wait()

    async def aclose(self) -> None:
        """Release connections and descriptors; the VM runs on."""
        vm = self._vm
        if vm is not None:
            if vm.alive:
                self._vm = None  # a later stop takes it over again
            await vm.aclose()

    def _attached(self) -> _VM | None:
        """Return the VM, taken over if another object has started it; None if it has ended, or was never started."""
        process = self.identity()
        if self._vm is None and process is not None:
            pidfd = process.open_pidfd()
            if pidfd is not None:
                self._vm = self._take_over(pidfd)
        return self._vm

    def _controlled(self, action: str) -> _VM:
        """Return the VM, alive. ``action`` is what for, in an error: "pause it". Raises HypervisorError."""
        vm = self._attached()
        if vm is None or not vm.alive:
            raise HypervisorError(f"the VM of pod {self._pod.id!r} has ended; to {action} it must be running")
        return vm

    def _require_new(self, action: str) -> None:
        """Refuse ``action`` ("add a device") once the VM has been made. Raises StateError."""
        if self._vm is not None or self.identity() is not None:
            raise StateError(f"the VM of pod {self._pod.id!r} has been made already; it is too late to {action}")

    @asynccontextmanager
    async def _undoing(self) -> AsyncIterator[None]:
        """Kill the process and remove its files and logs if the body fails. Turns OSError into VMStartError."""
        try:
            yield
        except BaseException as error:
            await self._undo()
            if isinstance(error, OSError) and not isinstance(error, VCError):
                raise VMStartError(f"the VM of pod {self._pod.id!r} cannot be started: {error}") from error
            raise

    async def _undo(self) -> None:
        vm, self._vm = self._vm, None
        try:
            if vm is not None:
                vm.kill()  # before the first await: nothing can interrupt it
                await vm.aclose()
        finally:
            for remove in (self._remove_files, self._discard_logs):
                with suppress(OSError):
                    remove()
