"""Labels of pods, in the API, on the command line and in pod files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import MOCK, virtc

import vc_core as vc
from vc_core.errors import ConfigError

MakeConfig = Callable[..., vc.PodConfig]


def made(mock_config: MakeConfig, pod_id: str, **labels: str) -> vc.Pod:
    return vc.create_pod(replace(mock_config(), id=pod_id, labels=labels))


def test_pods_are_listed_by_all_of_their_labels(mock_config: MakeConfig) -> None:
    made(mock_config, "a", team="web", tier="front")
    made(mock_config, "b", team="web", tier="")
    made(mock_config, "c")

    def found(**labels: str | None) -> list[str]:
        return [one.id for one in vc.list_pods(labels=labels)]

    assert found() == ["a", "b", "c"]
    assert found(team="web") == ["a", "b"]
    assert found(team="web", tier="front") == ["a"]
    assert found(tier="") == ["b"]
    assert found(tier=None) == ["a", "b"]
    assert vc.status_pod("a").labels == {"team": "web", "tier": "front"}
    assert vc.inspect_pod("a").labels == {"team": "web", "tier": "front"}


@pytest.mark.parametrize(
    "labels",
    [
        {"": "x"},
        {"a=b": "x"},
        {"a b": "x"},
        {"a\n": "x"},
        {"k" * 129: "x"},
        {"k": 1},
        {1: "x"},
        {"k": "x" * 4097},
        "k=v",
    ],
)
def test_a_label_that_is_not_valid_is_one_sentence(labels: Any) -> None:
    with pytest.raises(ConfigError) as failure:
        vc.PodConfig(labels=labels)
    assert "give" in str(failure.value)
    assert failure.value.field == "labels"
    assert "\n" not in str(failure.value)


def test_the_command_sets_labels_and_filters_by_them(mock_config: MakeConfig) -> None:
    for pod, label in (("a", "team=web shop"), ("b", "team")):
        assert virtc("pod", "create", *MOCK, "--id", pod, "--label", label, "--label", "all=1").returncode == 0
    made(mock_config, "c").start()

    def found(*filters: str) -> list[str]:
        words = [word for one in filters for word in ("--filter", one)]
        return virtc("pod", "list", "-q", *words).stdout.split()

    assert found("label=all") == ["a", "b"]
    assert found("label=all", "label=team=web shop") == ["a"]
    assert found("label=team=") == ["b"]
    assert found("state=running") == ["c"]
    assert found("state=running", "state=ready") == ["a", "b", "c"]
    assert "label team" in virtc("pod", "status", "a").stdout


@pytest.mark.parametrize("text", ["colour=red", "label", "label=", "state=", "state"])
def test_a_filter_that_does_not_exist_is_wrong_usage(mock_config: MakeConfig, text: str) -> None:
    done = virtc("pod", "list", "--filter", text)
    assert done.returncode == 2
    assert "give label=KEY[=VALUE] or state=STATE" in done.stderr


def test_a_state_that_does_not_exist_is_one_sentence(mock_config: MakeConfig) -> None:
    done = virtc("pod", "list", "--filter", "state=asleep")
    assert done.returncode == 1
    assert "give ready, running, paused, stopped, failed" in done.stderr


@pytest.mark.parametrize("form", ["yaml", "json", "toml"])
def test_labels_are_in_pod_files(form: str, tmp_path: Path) -> None:
    config = vc.PodConfig(id="p", labels={"app.example/name": "web", "empty": ""})
    path = tmp_path / f"pod.{form}"
    path.write_text(vc.dump_pod_config(config, format=form), encoding="utf-8")
    assert vc.load_pod_config(path).labels == config.labels


def test_a_label_that_is_not_valid_is_found_in_its_line(tmp_path: Path) -> None:
    path = tmp_path / "pod.yaml"
    path.write_text("id: p\nlabels:\n  a b: c\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"pod\.yaml:[23]: labels: the label 'a b' is not valid"):
        vc.load_pod_config(path)
