"""A hypervisor around any other, which notes how long each call that acts on the VM took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vc_core.driver import BlockDevice, Hypervisor, HypervisorProxy

#: Called with a method's name, the seconds it took, and the class of its exception or None.
Note = Callable[[str, float, str | None], None]


class TimedHypervisor(HypervisorProxy):
    """A hypervisor that does what another does, and notes each call; what it does not override is passed on."""

    def __init__(self, inner: Hypervisor, note: Note) -> None:
        """Pass calls on to ``inner``, and call ``note`` after each."""
        super().__init__(inner)
        self._note = note

    async def prepare(self, timeout: float) -> None:
        """See :class:`Hypervisor`."""
        with self._clock("prepare"):
            await super().prepare(timeout)

    async def start(self, timeout: float) -> None:
        """See :class:`Hypervisor`."""
        with self._clock("start"):
            await super().start(timeout)

    async def stop(self, timeout: float) -> None:
        """See :class:`Hypervisor`."""
        with self._clock("stop"):
            await super().stop(timeout)

    async def pause(self) -> None:
        """See :class:`Hypervisor`."""
        with self._clock("pause"):
            await super().pause()

    async def resume(self) -> None:
        """See :class:`Hypervisor`."""
        with self._clock("resume"):
            await super().resume()

    async def attach(self, device: BlockDevice, timeout: float) -> None:
        """See :class:`Hypervisor`."""
        with self._clock("attach"):
            await super().attach(device, timeout)

    async def detach(self, device_id: str, timeout: float) -> None:
        """See :class:`Hypervisor`."""
        with self._clock("detach"):
            await super().detach(device_id, timeout)

    async def discard(self, timeout: float) -> None:
        """See :class:`Hypervisor`."""
        with self._clock("discard"):
            await super().discard(timeout)

    @contextmanager
    def _clock(self, name: str) -> Iterator[None]:
        began, failure = time.monotonic(), None
        try:
            yield
        except BaseException as error:
            failure = type(error).__name__
            raise
        finally:
            self._note(name, time.monotonic() - began, failure)
