"""The plug-in: options, the probe, and the builder."""

from pathlib import Path

import pytest

from vc_core.errors import ConfigError
from vc_core.testing import Plugins
from vc_guest_debian import tools
from vc_guest_debian.builder import DebianBuilder
from vc_guest_debian.config import DebianConfig
from vc_guest_debian.plugin import DebianPlugin

DRIVER = Plugins(bare=True).guest("debian")  # objects as the driver makes them, without the guard of the core


def test_the_core_finds_the_driver_by_its_name() -> None:
    assert isinstance(DRIVER.create(DRIVER.config({})), DebianBuilder)


def test_options_become_the_configuration() -> None:
    options = {"kernel_package": "linux-image-rt-amd64", "lockdown": False}
    assert DRIVER.config(options) == DebianConfig(kernel_package="linux-image-rt-amd64", lockdown=False)


def test_an_option_of_the_command_line_is_text() -> None:
    assert DRIVER.config({"lockdown": "false"}) == DebianConfig(lockdown=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel": "x"}, "no option 'kernel'.*; it has kernel_package, lockdown"),
        ({"kernel_package": "--help"}, "option kernel_package of guest driver debian is '--help'; give the name of"),
        ({"kernel_package": None}, "option kernel_package of guest driver debian is None; give text"),
        ({"lockdown": "no"}, "option lockdown of guest driver debian is 'no'; give true or false"),
    ],
)
def test_a_bad_option_is_named_with_its_value(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DRIVER.config(options)


def test_the_probe_names_the_package_of_each_missing_tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert DebianPlugin().vc_driver_probe() == []
    monkeypatch.setattr(tools, "_SYSTEM_PATH", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    problems = DebianPlugin().vc_driver_probe()
    assert {problem.rpartition(" ")[2] for problem in problems} == {"apt", "dpkg", "kmod", "util-linux"}
