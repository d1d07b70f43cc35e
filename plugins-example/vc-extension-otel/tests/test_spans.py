"""The spans of pods that lived, through the whole product, in the SDK's exporter for tests."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

import vc_core as vc
from vc_core.errors import HypervisorError
from vc_core.testing import Plugins
from vc_extension_otel import OtelPlugin
from vc_extension_otel.plugin import EXPORTER_VARIABLE
from vc_extension_otel.spans import Spans, find_exporter

Found = Callable[[], list[ReadableSpan]]


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Found]:
    """Let the installed extension export to memory; return a function that returns the spans so far."""
    exporter = InMemorySpanExporter()
    spans = Spans(exporter)
    monkeypatch.setenv("VIRTCONTAINERS_ROOT", str(tmp_path / "root"))
    monkeypatch.setattr(OtelPlugin, "spans", spans)

    def found() -> list[ReadableSpan]:
        Plugins().drain()
        spans.flush()
        return list(exporter.get_finished_spans())

    yield found
    Plugins().drain()
    spans.close()


def pod(**options: str) -> vc.PodConfig:
    return vc.PodConfig(
        id="p1",
        hypervisor_type="mock",
        hypervisor_config=vc.HypervisorConfig(options=options),
        agent_type="noop",
        containers=[vc.ContainerConfig(id="c1", cmd=vc.Cmd(args=["sleep", "1"]))],
    )


def attributes(span: ReadableSpan) -> dict[str, object]:
    assert span.attributes is not None
    return dict(span.attributes)


def test_the_runs_of_a_pod_and_its_container_are_spans(found: Found) -> None:
    before = time.time_ns()
    with vc.run_pod(pod()) as made:
        middle = time.time_ns()
        made.stop()
    runs = [span for span in found() if span.name.endswith(" run")]
    assert [span.name for span in runs] == ["container run", "pod run"]
    assert attributes(runs[0]) == {"virtcontainers.pod.id": "p1", "container.id": "c1"}
    assert attributes(runs[1]) == {"virtcontainers.pod.id": "p1"}
    for run in runs:
        assert run.start_time is not None
        assert run.end_time is not None
        assert before <= run.start_time <= run.end_time <= time.time_ns()
        assert run.end_time >= middle
        assert run.status.status_code is StatusCode.UNSET
        assert run.resource.attributes["service.name"] == "virtcontainers"


def test_a_pod_that_fails_is_an_error_and_an_end_without_a_beginning_is_no_span(found: Found) -> None:
    plugin = OtelPlugin()
    plugin.vc_pod_transition("p2", "running", "stopped")
    for old, new in (("ready", "running"), ("running", "paused"), ("paused", "running"), ("running", "failed")):
        plugin.vc_pod_transition("p3", old, new)
    (run,) = found()
    assert (attributes(run)["virtcontainers.pod.id"], run.status.status_code) == ("p3", StatusCode.ERROR)


def test_each_call_that_acts_on_a_vm_is_a_span(found: Found) -> None:
    with vc.run_pod(pod()):
        pass
    calls = [span for span in found() if span.name.startswith("hypervisor ")]
    assert [span.name for span in calls] == ["hypervisor prepare", "hypervisor start", "hypervisor stop"]
    assert {attributes(span)["virtcontainers.hypervisor"] for span in calls} == {"MockHypervisor"}
    assert {span.status.status_code for span in calls} == {StatusCode.UNSET}


def test_a_call_that_fails_is_an_error_with_its_exception(found: Found) -> None:
    with pytest.raises(HypervisorError):
        vc.run_pod(pod(fail_start="1"))
    (failed,) = [span for span in found() if span.name == "hypervisor start"]
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.events[0].name == "exception"


def test_without_an_exporter_there_are_no_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(EXPORTER_VARIABLE, raising=False)
    assert OtelPlugin().spans is None


def test_an_exporter_that_is_not_installed_is_named_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(EXPORTER_VARIABLE, "nowhere")
    with caplog.at_level(logging.WARNING):
        assert OtelPlugin().spans is None
    assert "is 'nowhere', which no installed package has" in caplog.text


def test_the_exporters_of_installed_packages_are_found() -> None:
    assert type(find_exporter("console")).__name__ == "ConsoleSpanExporter"


def test_what_begins_no_span_does_not_load_the_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EXPORTER_VARIABLE, "console")
    monkeypatch.setattr(OtelPlugin, "_has_begun", False)
    plugin = OtelPlugin()
    plugin.vc_pod_transition("p", "", "ready")
    plugin.vc_pod_transition("p", "ready", "")
    assert "spans" not in vars(plugin)


def test_a_command_prints_its_spans_and_no_traceback(tmp_path: Path) -> None:
    virtc = Path(sys.executable).with_name("virtc")
    environment = {**os.environ, "VIRTCONTAINERS_ROOT": str(tmp_path), EXPORTER_VARIABLE: "console"}
    options = ["--hypervisor", "mock", "--agent", "noop", "--id", "p"]
    for words in (["create", *options, "--", "x"], ["start", "p"], ["stop", "p"], ["delete", "p"]):
        done = subprocess.run([virtc, "pod", *words], env=environment, capture_output=True, encoding="utf-8")
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
