"""``virtc console``, for pods without a console."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from commands import virtc

import vc_core as vc


@pytest.mark.parametrize("option", [(), ("--follow",), ("--interactive",)])
def test_a_pod_without_a_console_is_one_sentence(
    mock_config: Callable[..., vc.PodConfig], option: tuple[str, ...]
) -> None:
    vc.create_pod(mock_config())
    done = virtc("console", *option, "p1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "pod 'p1' is ready and has no log of a console: hypervisor 'mock' writes it" in done.stderr


def test_a_pod_that_is_not_there_is_named() -> None:
    assert "no pod has the id 'nope'" in virtc("console", "nope").stderr
