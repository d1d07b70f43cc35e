"""A hypervisor around any other, which reports each call that acts on the VM as a span."""

from __future__ import annotations

from vc_core.driver import BlockDevice, Hypervisor, HypervisorProxy
from vc_extension_otel.spans import Spans


class SpanHypervisor(HypervisorProxy):
    """A hypervisor that does what another does, with a span for each of its longer calls."""

    def __init__(self, inner: Hypervisor, spans: Spans, pod_id: str) -> None:
        """Pass calls on to ``inner``."""
        super().__init__(inner)
        self._spans, self._of = spans, (pod_id, type(inner).__name__)

    async def prepare(self, timeout: float) -> None:
        """See :class:`Hypervisor`."""
        with self._spans.of_call("prepare", *self._of):
            await super().prepare(timeout)

    async def start(self, timeout: float) -> None:
        """See :class:`Hypervisor`."""
        with self._spans.of_call("start", *self._of):
            await super().start(timeout)

    async def stop(self, timeout: float) -> None:
        """See :class:`Hypervisor`."""
        with self._spans.of_call("stop", *self._of):
            await super().stop(timeout)

    async def attach(self, device: BlockDevice, timeout: float) -> None:
        """See :class:`Hypervisor`."""
        with self._spans.of_call("attach", *self._of):
            await super().attach(device, timeout)

    async def detach(self, device_id: str, timeout: float) -> None:
        """See :class:`Hypervisor`."""
        with self._spans.of_call("detach", *self._of):
            await super().detach(device_id, timeout)
