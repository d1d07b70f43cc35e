"""Built guests: listed, removed, built again on first use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import vc_core as vc

from .conftest import container, pod_config, virtc

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.hypervisors("qemu")]


def test_a_guest_is_built_on_first_use_listed_and_removed(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIRTCONTAINERS_CACHE", str(tmp_path / "cache"))
    phrases: list[str] = []
    with vc.run_pod(
        pod_config(containers=[container(bundle)]), progress=lambda phrase, fraction: phrases.append(phrase)
    ) as pod:
        assert "assembling the initramfs" in phrases
        (built,) = vc.list_guests()
        assert built.agent == "hyperstart"
        assert [one["key"] for one in json.loads(virtc("guest", "list", "--json").stdout)] == [built.key]
        vc.delete_guest(built.key)
        assert vc.list_guests() == []
        assert virtc("guest", "list", "-q").stdout == b""
        assert pod.enter_container("c1", vc.Cmd(args=["echo", "alive"])).stdout == b"alive\n"


def test_a_guest_is_built_afresh_for_the_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIRTCONTAINERS_CACHE", str(tmp_path / "cache"))
    phrases: list[str] = []
    image = vc.build_guest(progress=lambda phrase, fraction: phrases.append(phrase))
    assert "assembling the initramfs" in phrases
    assert image.kernel.is_file()
    (built,) = vc.list_guests()
    assert image.initramfs.is_relative_to(built.directory)


def test_a_guest_that_is_not_there_is_named() -> None:
    done = virtc("guest", "remove", "nope")
    assert done.returncode == 1
    assert b"there is no guest 'nope'" in done.stderr
