"""The extension ``otel``: runs of containers, and calls of hypervisors, as OpenTelemetry spans."""

from vc_extension_otel.plugin import OtelPlugin

__all__ = ["OtelPlugin"]
