"""What is installed is read once, and again when it may have changed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from vc_core.driver.kinds import PluginKind
from vc_core.plugins import discovery


def install(site: Path, name: str) -> None:
    info = site / f"stranger_{name}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: stranger-{name}\nVersion: 1\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[{PluginKind.AGENT.group}]\n{name} = stranger:Plugin\n", encoding="utf-8")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only directory of ``sys.path``, which changed long ago."""
    site = tmp_path / "site"
    site.mkdir()
    install(site, "one")
    os.utime(site, (1, 1))
    monkeypatch.setattr(sys, "path", [str(site), str(tmp_path / "missing")])
    monkeypatch.setattr(discovery, "_latest", None)
    return site


def names() -> list[str]:
    return [entry.name for entry in discovery.installed().offers(PluginKind.AGENT)]


@pytest.mark.usefixtures("site")
def test_what_is_installed_is_read_once_while_no_directory_changes() -> None:
    assert discovery.installed() is discovery.installed()
    assert names() == ["one"]


def test_a_distribution_that_is_installed_or_removed_is_noticed(site: Path) -> None:
    assert names() == ["one"]
    install(site, "two")
    assert names() == ["one", "two"]
    for file in (site / "stranger_one-1.dist-info").iterdir():
        file.unlink()
    (site / "stranger_one-1.dist-info").rmdir()
    assert names() == ["two"]
