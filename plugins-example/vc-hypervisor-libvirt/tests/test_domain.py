"""The XML of a domain: what becomes of a pod and its devices, and what is refused."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from vc_core.driver import (
    BlockDevice,
    Boot,
    Channel,
    Device,
    HypervisorConfig,
    NetworkConfig,
    NetworkInterface,
    NetworkMode,
    Param,
    PodContext,
    PortForward,
    Resources,
    SharedDirectory,
)
from vc_core.errors import ConfigError, HypervisorError, PrivilegeError
from vc_hypervisor_libvirt import domain, network
from vc_hypervisor_libvirt.config import LibvirtConfig
from vc_hypervisor_libvirt.domain import Disk
from vc_hypervisor_libvirt.hypervisor import LibvirtHypervisor
from vc_hypervisor_libvirt.record import VmRecord

UUID = "6b5f2f4e-3c0f-5d0e-9f57-0b6c1d0c7a11"
QEMU = f"{{{domain._QEMU}}}"


@pytest.fixture
def pod(tmp_path: Path) -> PodContext:
    boot = Boot(Path("/k"), Path("/i & <j>"), True, ("a=1",))
    return PodContext(
        "p1", UUID, tmp_path, tmp_path / "share", Resources(memory=256, vcpus=2), HypervisorConfig(), boot
    )


def made(pod: PodContext, *devices: Device, disks: Sequence[Disk] = (), **options: Any) -> ElementTree.Element:
    sockets = {domain.CONSOLE: "/s/console", **{one.id: f"/s/{one.id}" for one in devices if isinstance(one, Channel)}}
    return ElementTree.fromstring(domain.xml(pod, LibvirtConfig(**options), devices, sockets, disks))


def arguments(whole: ElementTree.Element) -> list[str | None]:
    return [one.get("value") for one in whole.iter(f"{QEMU}arg")]


def user(**config: Any) -> NetworkInterface:
    return NetworkInterface(NetworkConfig(mode=NetworkMode.USER, **config), "52:54:00:aa:bb:cc")


def test_a_domain_has_the_uuid_kernel_and_size_of_its_pod(pod: PodContext) -> None:
    whole = made(pod)
    assert whole.findtext("uuid") == UUID
    assert whole.findtext("memory") == "256"
    assert whole.findtext("vcpu") == "2"
    assert whole.findtext("os/initrd") == "/i & <j>"
    assert (whole.findtext("os/cmdline") or "").endswith(" a=1")


def test_qemu_runs_in_the_mount_namespace_of_the_pod(pod: PodContext) -> None:
    whole = made(replace(pod, mount_namespace=Path("/proc/7/ns/mnt")))
    environment = {one.get("name"): one.get("value") for one in whole.iter(f"{QEMU}env")}
    assert environment["VC_MOUNT_NAMESPACE"] == "/proc/7/ns/mnt"
    assert environment["VC_RUN_DIR"] == str(pod.run_dir)
    assert whole.findtext("devices/emulator") == str(domain.EMULATOR)


def test_no_two_devices_have_one_slot(pod: PodContext) -> None:
    shares = [SharedDirectory(f"t{number}", Path("/")) for number in range(22)]
    assert pod.boot is not None
    whole = made(replace(pod, boot=replace(pod.boot, image_is_initramfs=False)), *shares, user())
    libvirts = [int(one.get("slot", "")) for one in whole.iter("address") if one.get("type") == "pci"]
    given = [json.loads(str(one)) for one in arguments(whole) if str(one).startswith("{")]
    passed = [int(one["addr"], 16) for one in given if "addr" in one]
    assert len(passed) == 1
    assert len({*libvirts, *passed}) == len(libvirts) + len(passed) == 27
    assert max(libvirts + passed) < 31


def test_a_share_is_read_only_or_keeps_owners_and_modes_beside_the_files(pod: PodContext) -> None:
    whole = made(pod, SharedDirectory("r", Path("/r")), SharedDirectory("w", Path("/w"), read_only=False))
    reading, writing = whole.findall("devices/filesystem")
    assert (reading.get("accessmode"), reading.find("readonly") is not None) == ("squash", True)
    assert (writing.get("accessmode"), writing.find("readonly") is not None) == ("mapped", False)


def test_the_format_of_a_disk_is_never_guessed(pod: PodContext) -> None:
    disks = [Disk(0, "/d", True, False), Disk(27, "/dev/x", False, True)]
    file, device = made(pod, disks=disks).findall("devices/disk")
    assert [one.get("type") for one in file.findall("driver")] == ["raw"]
    assert [one.get("type") for one in device.findall("driver")] == ["raw"]
    assert [one.get("dev") for one in (*file.findall("target"), *device.findall("target"))] == ["sda", "sdab"]
    assert (file.find("readonly") is not None, device.find("readonly") is not None) == (True, False)


def test_forwards_are_on_loopback_only_and_the_guest_is_restricted(pod: PodContext) -> None:
    text = " ".join(map(str, arguments(made(pod, user(forwards=[PortForward(80, 8080), PortForward(53, 0, "udp")])))))
    assert "tcp:127.0.0.1:8080-:80" in text
    assert "udp:127.0.0.1:0-:53" in text
    assert '"restrict": true' in text
    assert '"mac": "52:54:00:aa:bb:cc"' in text


def test_a_tap_device_is_an_interface_that_libvirt_does_not_make(pod: PodContext) -> None:
    tap = NetworkInterface(NetworkConfig(mode=NetworkMode.TAP, device="tap7"), "52:54:00:aa:bb:cc")
    (interface,) = made(pod, tap).findall("devices/interface")
    assert interface.get("type") == "ethernet"
    target = interface.find("target")
    assert target is not None
    assert (target.get("dev"), target.get("managed")) == ("tap7", "no")


def test_a_vm_of_a_plain_user_is_refused_before_the_daemon_is_asked(
    pod: PodContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4711)

    async def run() -> None:
        with pytest.raises(PrivilegeError, match=r"hypervisor libvirt needs root, .*; this process runs as user 4711"):
            await LibvirtHypervisor(pod, LibvirtConfig(), None).prepare(1)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("config", "resources", "says"),
    [
        (HypervisorConfig(hypervisor_path="/bin/true"), Resources(), "omit hypervisor_path"),
        (HypervisorConfig(hypervisor_params=[Param("-rtc", "base=utc")]), Resources(), "no hypervisor_params"),
        (HypervisorConfig(kernel_params=[Param("init", "/bin/sh")]), Resources(), "'init' cannot be set"),
        (HypervisorConfig(kernel_params=[Param("a b")]), Resources(), "'a b' is not valid"),
        (HypervisorConfig(), Resources(memory=10), "memory is 10 MiB"),
        (HypervisorConfig(), Resources(vcpus=10**4), "vcpus is 10000"),
    ],
)
def test_what_no_vm_can_have_is_refused_when_the_pod_is_created(
    pod: PodContext, config: HypervisorConfig, resources: Resources, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        LibvirtHypervisor(replace(pod, hypervisor_config=config, resources=resources), LibvirtConfig(), None)


@pytest.mark.parametrize(
    ("device", "says"),
    [
        (Channel("a", "x", Path("/" + "p" * 107)), "too long for a socket"),
        (BlockDevice("1", Path("/d")), "id '1'"),
        (SharedDirectory("a\x01", Path("/d")), "control character"),
        (SharedDirectory("a", Path("d")), "must be absolute"),
        (user(addresses=["fec0::9/64"]), "IPv4 address too"),
    ],
)
def test_a_device_that_no_vm_can_have_is_refused(pod: PodContext, device: Device, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        LibvirtHypervisor(pod, LibvirtConfig(), None).add_device(device)


def test_a_uri_that_is_not_that_of_qemu_is_refused() -> None:
    with pytest.raises(ConfigError, match="option uri of hypervisor libvirt is 'xen:///system'"):
        LibvirtConfig(uri="xen:///system")


def test_the_ports_that_qemu_chose_are_found_in_its_answer() -> None:
    usernet = (
        "Hub -1 (vcnet0):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n"
        "  TCP[HOST_FORWARD]  13       127.0.0.1 40123       10.0.2.15    80     0     0\r\n"
    )
    assert network.chosen([PortForward(80)], usernet) == (PortForward(80, 40123),)
    with pytest.raises(HypervisorError, match="does not list"):
        network.chosen([PortForward(81)], usernet)


def test_a_record_is_read_as_it_was_written() -> None:
    saved = {
        "process": {"pid": 7, "start_time": 8, "boot_id": "b"},
        "uri": "qemu:///system",
        "domain": UUID,
        "acceleration": "tcg",
        "channels": {"c": "/c"},
        "ports": {"p": 1},
        "forwards": [{"guest_port": 80, "host_port": 81, "protocol": "tcp"}],
        "disks": {"d": {"target": 0, "path": "/d", "read_only": True, "block": False}},
        "next_target": 1,
    }
    assert VmRecord.from_mapping(saved).to_mapping() == saved
