"""QEMU's argument vector, and how a real QEMU reads it."""

from __future__ import annotations

import json
import subprocess
import uuid
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vc_core.driver import Boot, Channel, Device, HypervisorConfig, Param, PodContext, Resources, SharedDirectory
from vc_core.errors import ConfigError
from vc_hypervisor_qemu import cmdline, devices
from vc_hypervisor_qemu.arguments import options
from vc_hypervisor_qemu.config import QemuConfig

UUID = str(uuid.uuid4())

#: QEMU reads these as all others, but replaces them in its answers (mod_utf8_codepoint in QEMU's util/unicode.c).
NONCHARACTERS = [
    *map(chr, range(0xFDD0, 0xFDF0)),
    *(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF)),
]


def request(
    *devices: Device,
    accelerator: str = "tcg",
    config: QemuConfig | None = None,
    resources: Resources | None = None,
    **pod: Any,
) -> cmdline.Request:
    context = PodContext(
        id="p1",
        uuid=pod.get("uuid", UUID),
        run_dir=Path("/run/p1"),
        share_dir=Path("/share"),
        resources=resources or Resources(),
        hypervisor_config=HypervisorConfig(hypervisor_params=pod.get("hypervisor_params", ())),
        boot=pod.get("boot", Boot(Path("/k"), Path("/i"), True, ("vc.x=1",))),
    )
    names = [cmdline.MONITOR, cmdline.CONSOLE, *(cmdline.socket_name(d) for d in devices if isinstance(d, Channel))]
    sockets = {name: number for number, name in enumerate(names, start=10)}
    return cmdline.Request(
        context, config or QemuConfig(), Path("/usr/bin/qemu"), accelerator, ("tsc_early_khz=1",), devices, sockets
    )


def values(argv: list[str], option: str) -> list[str]:
    return [value for name, value in pairwise(argv) if name == option]


def driver(device: str) -> str:
    return json.loads(device)["driver"] if device.startswith("{") else device.split(",")[0]


def test_the_name_of_the_vm_contains_the_pods_id() -> None:
    assert values(cmdline.argv(request()), "-name") == ["guest=p1,debug-threads=on"]
    assert values(cmdline.argv(request()), "-uuid") == [UUID]


def test_a_vm_is_created_stopped_in_a_sandbox_with_no_device_by_default() -> None:
    argv = cmdline.argv(request())
    assert {"-S", "-nodefaults", "-no-user-config", "-no-reboot"} < set(argv)
    assert values(argv, "-sandbox") == ["on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]
    assert [driver(device) for device in values(argv, "-device")] == ["virtio-rng-pci", "vmgenid", "virtio-scsi-pci"]
    assert not {"-daemonize", "-monitor", "-gdb", "-vnc", "-netdev", "-nic"} & set(argv)


@pytest.mark.parametrize(
    ("accelerator", "cpu", "expected"),
    [("kvm", "", "host"), ("tcg", "", "max,-erms"), ("tcg", "Haswell", "Haswell"), ("kvm", "EPYC,-svm", "EPYC,-svm")],
)
def test_the_cpu_is_the_best_there_is_unless_one_is_asked_for(accelerator: str, cpu: str, expected: str) -> None:
    argv = cmdline.argv(request(accelerator=accelerator, config=QemuConfig(cpu=cpu)))
    assert values(argv, "-cpu") == [expected]
    assert values(argv, "-machine") == ["q35,usb=off,vmport=off,smm=off,dump-guest-core=off"]
    assert values(argv, "-accel") == [{"tcg": "tcg,tb-size=256", "kvm": "kvm"}[accelerator]]


@pytest.mark.parametrize(
    ("resources", "memory", "cpus"), [(Resources(), "512M", "1"), (Resources(memory=300, vcpus=3), "300M", "3")]
)
def test_memory_and_cpus_are_what_the_pod_asks_for(resources: Resources, memory: str, cpus: str) -> None:
    argv = cmdline.argv(request(resources=resources))
    assert (values(argv, "-m"), values(argv, "-smp")) == ([memory], [cpus])


def test_each_device_has_its_back_end_before_it() -> None:
    devices = Channel("c0", "sh.hyper.channel.0"), SharedDirectory("tag", Path("/d"))
    argv = cmdline.argv(request(*devices, accelerator="kvm"))
    assert "-device virtio-serial-pci,disable-legacy=on" in " ".join(argv)
    assert argv[argv.index("-chardev", argv.index("virtio-serial-pci,disable-legacy=on")) :][:8] == [
        *("-chardev", "socket,id=channel.c0,fd=12,server=on,wait=off"),
        *("-device", "virtserialport,chardev=channel.c0,name=sh.hyper.channel.0"),
        *("-fsdev", "local,id=share1,path=/d,security_model=none,readonly=on,multidevs=remap"),
        *("-device", "virtio-9p-pci,fsdev=share1,mount_tag=tag,disable-legacy=on"),
    ]


@pytest.mark.parametrize(("accelerator", "expected"), [("tcg", 2), ("kvm", 0)])
def test_the_thread_of_an_emulated_cpu_serves_channels_and_shares_itself(accelerator: str, expected: int) -> None:
    devices = Channel("c0", "sh.hyper.channel.0"), SharedDirectory("tag", Path("/d"))
    argv = cmdline.argv(request(*devices, accelerator=accelerator))
    assert [",ioeventfd=off" in device for device in values(argv, "-device")].count(True) == expected


def test_a_writable_share_maps_owners_modes_and_links_to_attributes() -> None:
    """Else root in the guest could leave a set-user-id program of root's, a device or a link out of the share, here."""
    argv = cmdline.argv(request(SharedDirectory("tag", Path("/d"), read_only=False)))
    assert values(argv, "-fsdev") == ["local,id=share0,path=/d,security_model=mapped-xattr,multidevs=remap"]


def test_an_image_that_is_a_disk_is_raw_and_there_is_no_initramfs() -> None:
    argv = cmdline.argv(request(boot=Boot(Path("/k"), Path("/a,read-only=off"), False, ("root=/dev/vda",))))
    [backend] = map(json.loads, values(argv, "-blockdev"))
    assert backend.pop("file") == {
        "driver": "file",
        "filename": "/a,read-only=off",
        "read-only": True,
        "auto-read-only": False,
    }
    assert backend == {"driver": "raw", "node-name": "image", "read-only": True, "auto-read-only": False}
    assert [driver(device) for device in values(argv, "-device")][2] == "virtio-blk-pci"
    assert values(argv, "-append")[0].endswith(" root=/dev/vda")
    assert "-initrd" not in argv


def test_a_comma_in_a_value_stays_in_the_value() -> None:
    argv = cmdline.argv(request(SharedDirectory("t,readonly=off", Path("/a,path=/etc"))))
    assert "path=/a,,path=/etc," in values(argv, "-fsdev")[0]
    assert "mount_tag=t,,readonly=off," in values(argv, "-device")[2]


@pytest.mark.promise("T22")
@pytest.mark.slow
@pytest.mark.needs("qemu")
@settings(max_examples=20, deadline=None)
@given(st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters=NONCHARACTERS), min_size=1))
def test_qemu_reads_a_value_as_it_was_written(value: str) -> None:
    """QEMU's own answer: no escape is missing, and none is too much."""
    commands = [{"execute": name} for name in ("qmp_capabilities", "query-name", "quit")]
    ran = subprocess.run(
        [
            "qemu-system-x86_64",
            "-machine",
            "none",
            "-nodefaults",
            "-display",
            "none",
            "-qmp",
            "stdio",
            "-name",
            options("", {"guest": value, "debug-threads": "on"}),
        ],
        input="".join(map(json.dumps, commands)),
        capture_output=True,
        encoding="utf-8",
        check=True,
        timeout=60,
    )
    answers = [json.loads(line) for line in ran.stdout.splitlines()]
    assert {"return": {"name": value}} in answers


@pytest.mark.parametrize("text", ["a\nb", "\x00", "\x1b[31m", "\x7f"])
def test_a_control_character_is_refused_wherever_it_comes_from(text: str) -> None:
    for device in (SharedDirectory(text, Path("/d")), SharedDirectory("t", Path(f"/{text}")), Channel("c", text)):
        with pytest.raises(ConfigError, match="control character"):
            cmdline.argv(request(device))
    for boot in (Boot(Path(text), Path("/i"), True, ()), Boot(Path("/k"), Path(text), True, ())):
        with pytest.raises(ConfigError, match="control character"):
            cmdline.argv(request(boot=boot))


@pytest.mark.parametrize("device", [Channel("c", "n", Path("x")), SharedDirectory("t", Path("x"))])
def test_a_path_that_depends_on_a_working_directory_is_refused(device: Device) -> None:
    with pytest.raises(ConfigError, match=r"'x' of .* must be absolute"):
        devices.check(device, (), QemuConfig())


@pytest.mark.parametrize("id", ["", "1a", "a b", "a,b", "a=b", "../a", "ä"])
def test_a_channel_id_that_qemu_would_refuse_is_refused_first(id: str) -> None:
    with pytest.raises(ConfigError, match=r"id .* is not valid"):
        devices.check(Channel(id, "n"), (), QemuConfig())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Channel("a", "x"), Channel("a", "y")),
        (Channel("a", "x"), Channel("b", "x")),
        (SharedDirectory("t", Path("/a")), SharedDirectory("t", Path("/b"))),
    ],
)
def test_two_devices_with_one_identifier_are_refused(one: Device, other: Device) -> None:
    with pytest.raises(ConfigError, match="two devices have the"):
        devices.check(one, [other], QemuConfig())


HARMLESS = [
    ("global", "virtio-rng-pci.max-bytes=64"),
    ("global", "mc146818rtc.lost_tick_policy=discard"),
    ("icount", "auto"),
    ("icount", "shift=3,align=off,sleep=on"),
    ("overcommit", "mem-lock=off,cpu-pm=on"),
    ("rtc", "base=utc"),
    ("rtc", "base=2030-01-01T00:00:00,clock=vm"),
]


@pytest.mark.parametrize("dash", ["", "-"])
@pytest.mark.parametrize(("name", "value"), HARMLESS)
def test_a_harmless_option_of_the_caller_is_passed_on(name: str, value: str, dash: str) -> None:
    argv = cmdline.argv(request(hypervisor_params=[Param(dash + name, value)]))
    assert values(argv, f"-{name}") == [value]


def test_the_test_above_covers_every_option_that_is_allowed() -> None:
    assert {f"-{name}" for name, _ in HARMLESS} == set(cmdline.HYPERVISOR_PARAMS)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("-global", "virtio-rng-pci.romfile=/etc/shadow"),
        ("-global", "virtio-rng-pci.romfile=../secret"),
        ("-global", "driver=virtio-rng-pci,property=romfile,value=x"),
        ("-global", ""),
        ("-global", "x.romfile=a.rom"),
        ("-icount", "shift=auto,rr=record,rrfile=x"),
        ("-icount", "rr=replay,shift=1,rrfile=x"),
        ("-overcommit", "mem-lock=on,x=y"),
        ("-rtc", "base=utc,base=/x"),
        ("-rtc", "base=utc\n"),
    ],
)
def test_a_value_that_could_name_a_file_is_refused(key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"of hypervisor parameter {key} is not allowed"):
        cmdline.check_hypervisor_params([Param(key, value)])


@pytest.mark.parametrize(
    "key", ["-drive", "-chardev", "-fsdev", "-qmp", "-monitor", "-sandbox", "-incoming", "-device"]
)
def test_an_option_that_reaches_the_host_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}.* is not allowed"):
        cmdline.argv(request(hypervisor_params=[Param(key, "x")]))


def test_a_uuid_of_another_form_is_refused() -> None:
    with pytest.raises(ConfigError, match="uuid"):
        cmdline.argv(request(uuid="x,y"))
