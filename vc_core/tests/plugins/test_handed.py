"""Plug-ins that another process has found are loaded without a search, unless that does not work."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import distributions
from vc_core.driver.kinds import PluginKind
from vc_core.errors import DriverLoadError, DriverNotFoundError
from vc_core.plugins import discovery
from vc_core.plugins.handed import Found
from vc_core.plugins.registry import Plugins

SPAWNER = """
from vc_core.driver import SpawnerSpec, hookimpl
class Plugin:
    @hookimpl
    def vc_spawner_create(self, options):
        return None
"""


def found(name: str, value: str) -> Found:
    return Found(PluginKind.SPAWNER, name, value, "stranger", "1")


def refuse_search() -> None:
    raise AssertionError("what is installed was searched")


def test_what_was_found_is_handed_over_whole() -> None:
    handed = {(one.kind, one.name): one for one in discovery.Catalogue().hand_over()}
    one = handed[PluginKind.HYPERVISOR, "mock"]
    assert (one.value.partition(":")[0], one.distribution) == ("vc_hypervisor_mock.plugin", "vc-hypervisor-mock")
    assert {name for kind, name in handed if kind is PluginKind.AGENT} >= {"noop", "hyperstart", "sshd"}


def test_a_plugin_that_was_handed_over_is_loaded_without_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    handed = discovery.Catalogue().hand_over()
    monkeypatch.setattr(discovery, "installed", refuse_search)
    monkeypatch.setattr(discovery, "Catalogue", refuse_search)
    plugins = Plugins(found=handed)
    assert plugins.hypervisor("mock").name == "mock"
    assert plugins.names(PluginKind.HYPERVISOR) == sorted(
        one.name for one in handed if one.kind is PluginKind.HYPERVISOR
    )
    plugins.load_extensions()


def test_a_plugin_that_cannot_be_loaded_is_an_error_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distributions.install(tmp_path, "broken", "spawners", "broken", "raise SystemExit('no luck')", [])
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins = Plugins(found=[found("broken", "stranger_broken:Plugin"), found("gone", "no_such_module:Plugin")])
    with pytest.raises(DriverLoadError, match=r"stranger-broken .* failed to load .*no luck"):
        plugins.spawner("broken")
    with pytest.raises(DriverNotFoundError, match="there is no spawner driver 'gone'"):
        plugins.spawner("gone")


def test_a_plugin_for_another_core_is_not_handed_over_nor_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distributions.install(tmp_path, "older", "spawners", "older", SPAWNER, ["vc-core<0.1"])
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert discovery.Catalogue().hand_over() == []
