"""The kernel's command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from vc_core.driver import BlockDevice, Boot, Channel, Device, HypervisorConfig, Param, PodContext, SharedDirectory
from vc_core.errors import ConfigError
from vc_hypervisor_uml import cmdline


def parameters(pod: PodContext, *devices: Device, params: tuple[str, ...] = ()) -> list[str]:
    """Return the words after those that every VM gets."""
    pod = replace(pod, boot=Boot(Path("/k"), Path("/i"), True, params))
    lines = {device.name: [10, 11] for device in devices if isinstance(device, Channel)}
    kernel, *words = cmdline.argv(pod, devices, lines)
    assert kernel == "/k"
    return words[words.index("vc.pod=p1") + 1 :]


def test_each_channel_has_two_serial_lines_which_a_parameter_names(pod: PodContext) -> None:
    assert parameters(pod, Channel("a", "org.a"), Channel("b", "org.b"))[:6] == [
        *("ssl0=fd:10", "ssl1=fd:11", "vc.channel.org.a=/dev/ttyS0,/dev/ttyS1"),
        *("ssl2=fd:10", "ssl3=fd:11", "vc.channel.org.b=/dev/ttyS2,/dev/ttyS3"),
    ]


def test_hostfs_begins_at_the_one_directory_that_holds_all_shares(pod: PodContext) -> None:
    share = SharedDirectory("s", pod.share_dir)
    assert parameters(pod, share) == ["hostfs=share", "vc.share.s=hostfs:/."]
    writable = SharedDirectory("w", pod.run_dir / "writable", read_only=False)
    assert parameters(pod, share, writable) == ["hostfs=.", "vc.share.s=hostfs:/share", "vc.share.w=hostfs:/writable"]
    volume = SharedDirectory("v", Path("/srv"))
    assert parameters(pod, volume, share)[:2] == ["hostfs=/", "vc.share.v=hostfs:/srv"]


def test_without_shares_the_guest_can_mount_nothing(pod: PodContext) -> None:
    assert parameters(pod) == ["hostfs=none"]


def test_disks_are_raw_and_read_only_by_default(pod: PodContext) -> None:
    disks = (BlockDevice("a", Path("/d/a")), BlockDevice("b", Path("/d/b"), read_only=False))
    assert parameters(pod, *disks)[:2] == ["ubd0rd=/d/a", "ubd1d=/d/b"]
    assert cmdline.disk_names(disks) == {"a": "ubda", "b": "ubdb"}


def test_the_callers_parameters_come_last(pod: PodContext) -> None:
    assert parameters(pod, params=("quiet", "x=1"))[-2:] == ["quiet", "x=1"]


def test_a_line_that_the_kernel_would_cut_is_refused(pod: PodContext) -> None:
    with pytest.raises(ConfigError, match="4095 at most"):
        parameters(pod, params=("x=" + "1" * 4000,))


@pytest.mark.parametrize(
    "param",
    [
        "ubd7=/etc/shadow",
        "ubd0d=/x",
        "hostfs=/",
        "ssl9=fd:0",
        "vec0:transport=tap",
        "con1=port:1",
        "init=/x",
        "mem=9G",
        "vc.pod=x",
        "--x",
    ],
)
def test_parameters_that_user_mode_linux_reads_itself_are_refused(param: str) -> None:
    config = HypervisorConfig(kernel_params=[Param.parse(param)])
    with pytest.raises(ConfigError, match=param.partition("=")[0]):
        cmdline.check_caller_params(config)


@pytest.mark.parametrize("param", ["loglevel=7", "panic=5", "systemd.unit=x", "debug_boot_weak_hash"])
def test_other_parameters_of_callers_are_accepted(param: str) -> None:
    cmdline.check_caller_params(HypervisorConfig(kernel_params=[Param.parse(param)]))


@pytest.mark.parametrize(
    ("device", "says"),
    [
        (Channel("a", "two words"), "'two words'"),
        (Channel("a", "org.a", Path("/run/a.sock")), "no sockets in the file system"),
        (SharedDirectory("t", Path("/a b")), "'/a b'"),
        (SharedDirectory("t", Path("/a,append")), "comma"),
        (BlockDevice("d", Path("/cow:/backing")), "colon"),
    ],
)
def test_a_device_that_no_parameter_can_describe_is_refused_by_name(device: Device, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        cmdline.check_device(device, [])


def test_one_disk_too_many_is_refused() -> None:
    disks = [BlockDevice(f"d{number}", Path("/d")) for number in range(16)]
    with pytest.raises(ConfigError, match="16 of the kind at most"):
        cmdline.check_device(disks[0], disks)


def test_a_device_of_a_derived_class_counts_as_one_of_its_kind() -> None:
    class Derived(BlockDevice):
        """What another driver made of it."""

    disks = [BlockDevice(f"d{number}", Path("/d")) for number in range(15)]
    cmdline.check_device(Derived("d15", Path("/d")), disks)
    with pytest.raises(ConfigError, match="16 of the kind at most"):
        cmdline.check_device(BlockDevice("d16", Path("/d")), [*disks, Derived("d15", Path("/d"))])
