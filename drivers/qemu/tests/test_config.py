"""Options and their errors, through the plug-in."""

from __future__ import annotations

import pytest

from vc_core.errors import ConfigError
from vc_core.testing import Plugins
from vc_hypervisor_qemu import QemuConfig

DRIVER = Plugins().hypervisor("qemu")


def test_options_become_the_configuration() -> None:
    given = {"machine": "q35", "accel": "tcg", "cpu": "Haswell,-rtm,phys-bits=40"}
    assert DRIVER.config(given) == QemuConfig(machine="q35", accel="tcg", cpu="Haswell,-rtm,phys-bits=40")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"speed": "high"}, "has no option 'speed'; it has machine, accel, cpu"),
        ({"accel": 1}, "option accel of hypervisor qemu is 1"),
        ({"accel": "hvf"}, "'hvf'; give auto, kvm or tcg"),
        ({"machine": "virt"}, "'virt'; give q35, pc or microvm"),
        ({"cpu": "max,+"}, "option cpu"),
        ({"cpu": "max -daemonize"}, "option cpu"),
        ({"cpu": "max\n"}, "option cpu"),
    ],
)
def test_a_bad_option_is_named(options: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        DRIVER.config(options)


def test_this_host_can_run_the_driver() -> None:
    assert DRIVER.probe() == []
