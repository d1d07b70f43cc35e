"""The parts of the contract that all kinds of plug-ins share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from inspect import isfunction
from pathlib import Path
from typing import ClassVar

import pytest

from vc_core.driver.kinds import PluginKind
from vc_core.errors import VCError
from vc_core.plugins.checks import CHECKS, Check, DriverUnderTest, run_check
from vc_core.plugins.drivers import Driver
from vc_core.plugins.registry import Plugins
from vc_core.testing import census
from vc_core.testing.contract.running import unwritten_methods_fail


def _is_contract(cls: type) -> bool:
    """Return whether a class is part of a contract: of ``testing.contract`` in the core or in a driver."""
    return ".testing.contract." in f"{cls.__module__}."


def _tests(cls: type) -> set[str]:
    return {name for name in vars(cls) if name.startswith("test_")}


class Contract:
    """Base of all contracts: the census of leaks, and the test that no promise was replaced."""

    kind: ClassVar[PluginKind]

    #: The name under which a distribution offers the plug-in.
    driver_name: ClassVar[str] = ""

    @pytest.fixture(autouse=True)
    def nothing_is_left_behind(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        """Count processes, descriptors, threads, mounts and sockets around every test."""
        with census.unchanged(tmp_path_factory.getbasetemp()):
            yield

    def test_no_promise_was_struck_out(self) -> None:
        """A test of the contract may be replaced only by one that is marked xfail, with a reason."""
        contracts = [cls for cls in type(self).__mro__ if _is_contract(cls)]
        for name in {name for cls in contracts for name in _tests(cls)}:
            used = getattr(type(self), name, None)
            if used in [vars(cls)[name] for cls in contracts if name in vars(cls)]:
                continue
            marks = getattr(used, "pytestmark", []) if isfunction(used) else []
            reasons = [mark.kwargs.get("reason") for mark in marks if mark.name == "xfail"]
            assert any(reasons), (
                f"{name} is a promise of the contract; replace it only with @pytest.mark.xfail(reason=...) around "
                f"super().{name}"
            )


class ExtensionContract(Contract):
    """The contract of extensions: they keep the specification of their hooks. Set ``driver_name``."""

    kind = PluginKind.EXTENSION

    def test_it_is_found_and_keeps_its_specification(self) -> None:
        Plugins(bare=True).extension(self.driver_name)


class PluginContract(Contract):
    """The contract of every driver; base of the contracts of the four kinds.

    Set ``driver_name``; for a plug-in object that no distribution offers, override the fixture :meth:`driver` with the
    result of :meth:`injected`. Override :meth:`options` if the driver requires options.
    """

    @pytest.fixture
    def driver(self) -> Driver:
        """The driver under test."""
        return Plugins(bare=True).driver(self.kind, self.driver_name)

    @pytest.fixture
    def options(self) -> Mapping[str, object]:
        """Options with which the driver works on this host."""
        return {}

    @classmethod
    def injected(cls, plugin: object) -> Driver:
        """Return the driver of a plug-in object that no distribution offers. Called by the fixture :meth:`driver`."""
        plugins = Plugins(bare=True)
        plugins.add_driver(cls.kind, cls.driver_name or "injected", plugin)
        return plugins.driver(cls.kind, cls.driver_name or "injected")

    @pytest.fixture(autouse=True)
    def usable_here(self, driver: Driver) -> None:
        """Skip every test on a host on which the driver's probe returns problems; they are the reason."""
        with suppress(VCError, NotImplementedError):  # a broken probe breaks a promise below
            if problems := driver.probe():
                pytest.skip("; ".join(problems))

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_it_keeps_the_promises_that_any_installed_driver_is_held_to(
        self, driver: Driver, options: Mapping[str, object], check: Check, tmp_path: Path
    ) -> None:
        with unwritten_methods_fail():
            if violations := run_check(check, DriverUnderTest(driver, options, tmp_path)):
                pytest.fail("\n".join(violations), pytrace=False)
