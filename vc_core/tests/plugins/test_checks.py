"""The checks of installed drivers, on drivers that break."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from vc_agent_noop.agent import NoopAgent
from vc_agent_noop.plugin import NoopPlugin
from vc_core.driver import Device, hookimpl
from vc_core.driver.kinds import PluginKind
from vc_core.plugins.checks import CHECKS, DriverUnderTest, run_check
from vc_core.plugins.registry import Plugins


class Faulty(NoopAgent):
    def devices(self) -> Sequence[Device]:
        raise RuntimeError("no devices")


class FaultyPlugin(NoopPlugin):
    @hookimpl
    def vc_agent_create(self, saved: Mapping[str, object] | None) -> Faulty:
        return Faulty(saved)


def test_an_exception_of_a_driver_is_a_violation_in_one_sentence_and_ends_no_check(tmp_path: Path) -> None:
    plugins = Plugins(bare=True)
    plugins.add_driver(PluginKind.AGENT, "faulty", FaultyPlugin())
    tested = DriverUnderTest(plugins.agent("faulty"), {}, tmp_path)
    found = [sentence for check in CHECKS for sentence in run_check(check, tested)]
    assert any("raises RuntimeError: no devices; a driver raises only VCErrors" in sentence for sentence in found)
