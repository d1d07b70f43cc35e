"""The devices that a VM can have."""

from __future__ import annotations

from typing import Any

import pytest

from vc_core.driver import Channel
from vc_core.errors import ConfigError
from vc_hypervisor_qemu import devices
from vc_hypervisor_qemu.config import QemuConfig


class Derived(Channel):
    """A driver's own kind of channel."""


def test_a_device_of_a_derived_class_counts_as_one_of_its_kind() -> None:
    channels = [Derived(f"c{number}", f"org.{number}") for number in range(30)]
    devices.check(channels[0], channels[1:], QemuConfig())
    with pytest.raises(ConfigError, match="30 of the kind at most"):
        devices.check(Channel("c", "org.c"), channels, QemuConfig())


def test_an_object_that_is_not_a_device_is_refused_by_its_name() -> None:
    device: Any = "a channel"
    with pytest.raises(ConfigError, match="cannot give a str to a VM"):
        devices.check(device, (), QemuConfig())
