"""The drivers and devices of a pod are checked before anything is stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import vc_core as vc
from vc_core.driver.devices import SharedDirectory
from vc_core.driver.hooks import hookimpl
from vc_core.driver.kinds import PluginKind
from vc_core.engine import assembly
from vc_core.errors import DriverContractError
from vc_core.plugins.registry import Plugins
from vc_core.store.roots import Roots

_noop = Plugins().agent("noop")


class Fussy:
    """An agent driver like noop, whose agents ask for devices."""

    def __init__(self, *devices: Any) -> None:
        self._devices = devices

    @hookimpl
    def vc_agent_create(self, pod: Any, config: object, spawner: Any, saved: Any) -> Any:
        agent = _noop.create(pod, config, spawner, saved)
        vars(agent)["devices"] = lambda: self._devices
        return agent


class Derived(SharedDirectory):
    """A driver's own kind of shared directory."""


def check(mock_config: Any, roots: Roots, device: object) -> None:
    plugins = Plugins()
    plugins.add_driver(PluginKind.AGENT, "fussy", Fussy(device))
    assembly.check(plugins, replace(mock_config(), agent_type="fussy"), roots)


def test_a_device_of_a_derived_class_is_taken_as_one_of_its_kind(
    mock_config: Callable[..., vc.PodConfig], roots: Roots
) -> None:
    check(mock_config, roots, Derived("tag", Path("/")))


def test_what_is_no_device_is_the_fault_of_the_driver_that_asks_for_it(
    mock_config: Callable[..., vc.PodConfig], roots: Roots
) -> None:
    with pytest.raises(DriverContractError, match="agent driver 'fussy' asks for 'a channel', which is no device"):
        check(mock_config, roots, "a channel")
