"""``virtc metrics``, read by Prometheus' own parser."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import virtc
from prometheus_client.parser import text_string_to_metric_families

import vc_core as vc
from vc_core.client import metrics
from vc_core.results import ContainerUsage, PodUsage, VMUsage


def samples(text: str) -> dict[tuple[str, str], float]:
    """Return the values of a text, by names and the container or pod, as Prometheus reads it."""
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        for one in family.samples:
            assert family.type == ("counter" if one.name.endswith("_total") else "gauge")
            place = one.labels.get("container") or one.labels.get("pod") or one.labels["state"]
            found[one.name.removeprefix("virtcontainers_"), place] = one.value
    return found


def test_pods_and_containers_have_their_states(mock_config: Callable[..., vc.PodConfig]) -> None:
    vc.create_pod(mock_config("p0"))
    pod = vc.run_pod(mock_config("p1", containers=2))
    pod.container("c1").stop()
    found = samples(vc.metrics())
    assert (found["pods", "ready"], found["pods", "running"], found["pods", "stopped"]) == (1, 1, 0)
    assert (found["pod_info", "p0"], found["pod_info", "p1"]) == (1, 1)
    created = pod.status().created_at
    assert found["pod_created_timestamp_seconds", "p1"] == created
    assert (found["container_running", "c1"], found["container_running", "c2"]) == (0, 1)


def test_usage_has_a_metric_for_each_figure_in_base_units() -> None:
    usage = PodUsage(
        pod_id="p1",
        time=0.0,
        vm=VMUsage(cpu_seconds=1.5, memory=2, pids=3, read=4, written=5),
        containers={"c1": ContainerUsage(*range(1, 10)), "c2": ContainerUsage(memory=1)},
    )
    text = "".join(f"{line}\n" for family in metrics._of_usage([usage]) for line in family.lines())
    found = samples(text)
    assert {name: value for (name, place), value in found.items() if place == "p1"} == {
        "vm_cpu_seconds_total": 1.5,
        "vm_memory_bytes": 2,
        "vm_threads": 3,
        "vm_read_bytes_total": 4,
        "vm_written_bytes_total": 5,
    }
    assert {name: value for (name, place), value in found.items() if place == "c1"} == {
        "container_cpu_seconds_total": 1,
        "container_memory_working_set_bytes": 2,
        "container_memory_limit_bytes": 3,
        "container_threads": 4,
        "container_read_bytes_total": 5,
        "container_written_bytes_total": 6,
        "container_memory_usage_bytes": 7,
        "container_memory_cache_bytes": 8,
        "container_oom_kills_total": 9,
    }
    assert [name for name, place in found if place == "c2"] == ["container_memory_working_set_bytes"]


def test_no_label_breaks_the_text() -> None:
    family = metrics._Family("x", "gauge", "X", [({"pod": 'a"b\\c\nd'}, 1.0)])
    (parsed,) = text_string_to_metric_families("".join(f"{line}\n" for line in family.lines()))
    assert parsed.samples[0].labels == {"pod": 'a"b\\c\\nd'}


def test_a_textfile_is_replaced_as_a_whole_and_readable_for_all(
    mock_config: Callable[..., vc.PodConfig], tmp_path: Path
) -> None:
    path = tmp_path / "out/pods.prom"
    path.parent.mkdir()
    path.write_text("old", encoding="utf-8")
    before = path.stat().st_ino
    vc.create_pod(mock_config())
    assert virtc("metrics", "--textfile", str(path)).stdout == ""
    assert samples(path.read_text(encoding="utf-8"))["pod_info", "p1"] == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert path.stat().st_ino != before
    assert [one.name for one in path.parent.iterdir()] == ["pods.prom"]


@pytest.mark.parametrize(
    ("name", "code", "sentence"),
    [("none/pods.prom", 1, "cannot be written: No such file"), ("pods.txt", 2, "does not end in .prom")],
)
def test_a_textfile_that_cannot_be_is_one_sentence(tmp_path: Path, name: str, code: int, sentence: str) -> None:
    done = virtc("metrics", "--textfile", str(tmp_path / name))
    assert done.returncode == code
    assert sentence in done.stderr
    assert list(tmp_path.iterdir()) == []
