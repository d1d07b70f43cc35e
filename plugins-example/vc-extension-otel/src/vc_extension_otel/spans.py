"""Makes spans with OpenTelemetry's SDK, and hands them to an exporter on a thread of the SDK."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import entry_points, version

from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span, Status, StatusCode

#: Where packages name their exporters (specification of OpenTelemetry for Python, "configuration").
_GROUP = "opentelemetry_traces_exporter"


def find_exporter(name: str) -> SpanExporter | None:
    """Return the exporter of that name, of any installed package; None if there is none."""
    for found in entry_points(group=_GROUP, name=name):
        exporter: SpanExporter = found.load()()
        return exporter
    return None


class Spans:
    """The spans of one process."""

    def __init__(self, exporter: SpanExporter) -> None:
        """Hand all spans to ``exporter``; what is left when the process ends, then."""
        # Variables such as OTEL_RESOURCE_ATTRIBUTES win over what is given here.
        self._provider = TracerProvider(resource=Resource.create({SERVICE_NAME: "virtcontainers"}))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        #: Of what runs, by the name of the span and what its attributes name.
        self._running: dict[tuple[str, ...], Span] = {}
        self._tracer = self._provider.get_tracer("vc-extension-otel", version("vc-extension-otel"))

    def begin(self, name: str, attributes: Mapping[str, str]) -> None:
        """Begin the span of what has now begun to run."""
        self._running[name, *attributes.values()] = self._tracer.start_span(name, attributes=attributes)

    def end(self, name: str, attributes: Mapping[str, str], failed: bool) -> None:
        """End the span of what runs no more, if it began in this process."""
        span = self._running.pop((name, *attributes.values()), None)
        if span is not None:
            if failed:
                span.set_status(Status(StatusCode.ERROR))
            span.end()

    @contextmanager
    def of_call(self, name: str, pod_id: str, hypervisor: str) -> Iterator[None]:
        """Report what is done within the block as a call of a hypervisor, with the exception that it raises."""
        attributes = {"virtcontainers.pod.id": pod_id, "virtcontainers.hypervisor": hypervisor}
        with self._tracer.start_as_current_span(f"hypervisor {name}", attributes=attributes):
            yield

    def flush(self) -> None:
        """Hand to the exporter what it has not got yet. For tests."""
        self._provider.force_flush()

    def close(self) -> None:
        """End the SDK's thread, after the exporter has got all. The SDK does so when the process ends."""
        self._provider.shutdown()
