"""The plug-in class that the entry point names."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from vc_core.driver import Hypervisor, PodContext, hookimpl

if TYPE_CHECKING:
    from vc_extension_otel.spans import Spans

#: A supervisor gets variables that begin so; what follows ``VC_`` is OpenTelemetry's own variable.
_BEGINNING = "VC_OTEL_"

#: Names the exporter, as OpenTelemetry's variable does; without it there are no spans, and the SDK is not loaded.
EXPORTER_VARIABLE = "VC_OTEL_TRACES_EXPORTER"

_log = logging.getLogger(__name__)


class OtelPlugin:
    """Notified of every transition, and around every hypervisor."""

    #: Whether a span has begun in this process, which may have several of these objects.
    _has_begun: ClassVar[bool] = False

    @cached_property
    def spans(self) -> Spans | None:
        """What makes spans; None where the environment names no exporter, or one that is not installed."""
        name = os.environ.get(EXPORTER_VARIABLE)
        if not name:
            return None
        for variable, value in list(os.environ.items()):
            if variable.startswith(_BEGINNING):
                os.environ.setdefault(variable.removeprefix("VC_"), value)
        from vc_extension_otel.spans import Spans, find_exporter

        exporter = find_exporter(name)
        if exporter is None:
            _log.warning("%s is %r, which no installed package has", EXPORTER_VARIABLE, name)
            return None
        return Spans(exporter)

    @hookimpl
    def vc_pod_transition(self, pod_id: str, old: str, new: str) -> None:
        """Begin or end the span of a pod that runs."""
        self._transition("pod run", old, new, {"virtcontainers.pod.id": pod_id})

    @hookimpl
    def vc_container_transition(self, pod_id: str, container_id: str, old: str, new: str) -> None:
        """Begin or end the span of a container that runs."""
        self._transition("container run", old, new, {"virtcontainers.pod.id": pod_id, "container.id": container_id})

    def _transition(self, name: str, old: str, new: str, attributes: dict[str, str]) -> None:
        begins = new == "running" and old != "paused"
        if not (begins or self._has_begun) or self.spans is None:
            return  # a process that has begun no span does without the SDK
        if begins:
            OtelPlugin._has_begun = True
            self.spans.begin(name, attributes)
        elif new not in ("running", "paused"):
            self.spans.end(name, attributes, failed=new == "failed")

    @hookimpl(wrapper=True)
    def vc_hypervisor_create(self, pod: PodContext) -> Generator[None, object, object]:
        """Report each call that acts on the VM, of the hypervisor that the driver made."""
        made = yield
        if self.spans is None or not isinstance(made, Hypervisor):
            return made
        from vc_extension_otel.hypervisor import SpanHypervisor

        return SpanHypervisor(made, self.spans, pod.id)
