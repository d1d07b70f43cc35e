"""Arguments of a wrong type or size that a caller without a type checker passes: one error, which names the value."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

import vc_core as vc
from vc_core.client.interpreters import run_blocking
from vc_core.client.processes import open_with_streams


@pytest.fixture
def pod(mock_config: Callable[..., vc.PodConfig]) -> vc.Pod:
    return vc.create_pod(mock_config())


@pytest.mark.parametrize("name", [[], {}, 1, None])
def test_a_container_that_is_named_by_no_text_is_not_found(pod: vc.Pod, name: Any) -> None:
    with pytest.raises(vc.ContainerNotFoundError, match=r"has no container .*; it has 'c1'"):
        vc.status_container("p1", name)


@pytest.mark.parametrize("labels", ["web", 1, ["web"]])
def test_labels_that_are_no_mapping_are_named(labels: Any) -> None:
    with pytest.raises(vc.ConfigError, match=r"labels is .*; give a mapping of keys to values"):
        vc.list_pods(labels=labels)


def test_an_interval_of_none_is_refused() -> None:
    interval: Any = None
    with pytest.raises(vc.ConfigError, match="interval is None"):
        next(vc.watch_stats(interval=interval))


@pytest.mark.parametrize("size", [1, (1,), (1, 2, 3), (-1, 80), (24, 65536), (24.0, 80), (True, 80), "ab"])
def test_the_size_of_a_terminal_is_two_numbers_that_a_kernel_takes(size: Any) -> None:
    none: Any = None
    with pytest.raises(vc.ConfigError, match=r"the size of the terminal is .*; give two whole numbers"):
        run_blocking(open_with_streams(none, none, "", none, None, None, None, size))


def test_more_lines_than_a_log_can_have_are_all_of_them(pod: vc.Pod) -> None:
    assert list(itertools.islice(vc.Container("p1", "c1").logs(tail=10**30), 1)) == []


def test_the_error_for_an_id_quotes_its_beginning_only() -> None:
    with pytest.raises(vc.ConfigError) as caught:
        vc.status_pod("x" * 100_000)
    assert len(str(caught.value)) < 500
