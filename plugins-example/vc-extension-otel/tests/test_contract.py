"""The contract of extensions, and that of hypervisors for one inside the wrapper."""

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from vc_core.testing import ExtensionContract, HypervisorContract
from vc_extension_otel import OtelPlugin
from vc_extension_otel.spans import Spans


class TestExtension(ExtensionContract):
    driver_name = "otel"


class TestMockInside(HypervisorContract):
    driver_name = "mock"

    @pytest.fixture(autouse=True)
    def spans(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        made = Spans(InMemorySpanExporter())
        monkeypatch.setattr(OtelPlugin, "spans", made)
        yield
        made.close()
