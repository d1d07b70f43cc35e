"""Built guests: listed, removed, built again on first use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import vc_core as vc

from .conftest import container, pod_config, virtc

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.qemu]


def test_a_guest_is_built_on_first_use_listed_and_removed(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIRTCONTAINERS_CACHE", str(tmp_path / "cache"))
    phrases: list[str] = []
    with vc.run_pod(
        pod_config(containers=[container(bundle)]), progress=lambda phrase, fraction: phrases.append(phrase)
    ) as pod:
        assert "assembling the initramfs" in phrases
        keys = virtc("guest", "list", "-q").stdout.decode().split()
        assert len(keys) == 1
        assert json.loads(virtc("guest", "list", "--json").stdout)[0]["agent"] == "hyperstart"
        assert virtc("guest", "remove", keys[0]).returncode == 0
        assert virtc("guest", "list", "-q").stdout == b""
        assert pod.enter_container("c1", vc.Cmd(args=["echo", "alive"])).stdout == b"alive\n"


def test_a_guest_that_is_not_there_is_named() -> None:
    done = virtc("guest", "remove", "nope")
    assert done.returncode == 1
    assert b"there is no guest 'nope'" in done.stderr
