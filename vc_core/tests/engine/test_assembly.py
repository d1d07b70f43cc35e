"""The drivers and devices of a pod are checked before anything is stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

import vc_core as vc
from vc_core.driver.context import PodContext
from vc_core.driver.devices import SharedDirectory
from vc_core.driver.hooks import hookimpl
from vc_core.driver.kinds import PluginKind
from vc_core.driver.spawner import Spawner, SpawnTarget
from vc_core.engine import assembly
from vc_core.errors import ConfigError, DriverContractError, NotSupportedError
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


class Entering:
    """An agent driver like noop, whose options name a spawner; ``got`` is the one that its last agent was given."""

    got: Spawner | None = None

    @dataclass(frozen=True)
    class Options:
        default_spawner: ClassVar[str] = "usual"
        spawner: str = ""

    @hookimpl
    def vc_driver_options(self) -> type[object]:
        return self.Options

    @hookimpl
    def vc_agent_create(self, pod: Any, config: object, spawner: Any, saved: Any) -> Any:
        self.got = spawner
        return _noop.create(pod, config, spawner, saved)


class Named(Spawner):
    """A spawner driver, and what it makes: it puts its name before each command."""

    def __init__(self, name: str) -> None:
        self._name = name

    @hookimpl
    def vc_spawner_create(self, config: object) -> Spawner:
        return self

    def wrap(self, argv: Sequence[str], target: SpawnTarget) -> list[str]:
        return [self._name, *argv]


@pytest.mark.parametrize(
    ("installed", "asked", "used"),
    [(["usual", "other"], "other", "other"), (["usual", "other"], "", "usual"), (["other"], "", "")],
)
def test_an_agent_gets_the_spawner_that_is_asked_for_else_its_usual_one_if_that_is_installed(
    installed: list[str], asked: str, used: str, mock_config: Callable[..., vc.PodConfig], tmp_path: Path
) -> None:
    plugins = Plugins()
    plugins.add_driver(PluginKind.AGENT, "entering", driver := Entering())
    for name in installed:
        plugins.add_driver(PluginKind.SPAWNER, name, Named(name))
    config = replace(mock_config("p1"), agent_type="entering", agent_config={"spawner": asked})
    assembly.make_drivers(plugins, config, PodContext.of(config, tmp_path))
    assert (driver.got.wrap([], SpawnTarget("c1", 2)) if driver.got else [""]) == [used]


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


def test_a_hypervisor_without_the_capability_gives_no_guest_a_root_to_write_to(
    mock_config: Callable[..., vc.PodConfig], roots: Roots, tmp_path: Path
) -> None:
    device = SharedDirectory("roots", tmp_path, read_only=False, owners=True)
    with pytest.raises(ConfigError, match=r"hypervisor 'mock' cannot keep .* leave it out, or choose another"):
        check(mock_config, roots, device)


def test_an_agent_that_shares_no_such_directory_is_no_agent_of_a_container_that_writes_to_its_root(
    mock_config: Callable[..., vc.PodConfig], roots: Roots, tmp_path: Path
) -> None:
    writes = vc.ContainerConfig(id="c1", root_fs=str(tmp_path), cmd=["true"], writable_root_fs=True)
    with pytest.raises(NotSupportedError, match=r"writable_root_fs, and the agent of its pod lets no"):
        assembly.check(Plugins(), replace(mock_config(), containers=[writes]), roots)
