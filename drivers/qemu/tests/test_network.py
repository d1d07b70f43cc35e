"""Networks and forwarded ports: arguments, errors, and guests that are connected to."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from qemu_vms import ask, booted, live

from needs import require
from vc_core.driver import (
    Boot,
    Channel,
    Device,
    GuestPort,
    NetworkConfig,
    NetworkInterface,
    NetworkMode,
    PortForward,
    SharedDirectory,
)
from vc_core.errors import ConfigError, HypervisorError, VMStartError
from vc_hypervisor_qemu import devices, hostnet, network
from vc_hypervisor_qemu.config import QemuConfig
from vc_hypervisor_qemu.hypervisor import QemuHypervisor
from waiting import PATIENCE

Make = Callable[..., QemuHypervisor]

MAC = "52:54:00:aa:bb:cc"


def user(**config: Any) -> NetworkInterface:
    return NetworkInterface.of(NetworkConfig(mode=NetworkMode.USER, **config), MAC)


def tap(name: str) -> NetworkInterface:
    return NetworkInterface.of(NetworkConfig(mode=NetworkMode.TAP, device=name), MAC)


def listeners(pid: int) -> set[tuple[str, str, int]]:
    """Return protocol, address and port of all that a process listens to, as the kernel of the host says."""
    descriptors = (str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir())
    own = {match[1] for one in descriptors if (match := re.fullmatch(r"socket:\[(\d+)\]", one))}
    found = set()
    for protocol, state in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        if not (table := Path(f"/proc/net/{protocol}")).exists():  # a host without IPv6
            continue
        for line in table.read_text(encoding="utf-8").splitlines()[1:]:
            _, local, _, current, *_, inode = line.split()[:10]
            if inode in own and current == state:
                address, port = local.split(":")
                found.add((protocol, address, int(port, 16)))
    return found


@pytest.fixture
def tap_device() -> Iterator[str]:
    """A tap device of the host, 198.51.100.1, that no process uses."""
    require("ip", "/dev/net/tun")
    name = f"vct{os.getpid()}"
    subprocess.run(["ip", "tuntap", "add", "dev", name, "mode", "tap"], check=True)
    try:
        subprocess.run(["ip", "address", "add", "198.51.100.1/24", "dev", name], check=True)
        subprocess.run(["ip", "link", "set", name, "up"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "link", "delete", name], check=True)


# -- the guest's addresses ---------------------------------------------------------------------------------------------


def test_a_restricted_guest_has_an_address_and_no_way_out() -> None:
    resolved = network.resolve(user())
    assert (resolved.addresses, resolved.gateway, resolved.dns) == (("10.0.2.15/24",), "", ())


@pytest.mark.parametrize(
    ("addresses", "gateway", "dns"),
    [
        (["10.0.2.15/24"], "10.0.2.2", ("10.0.2.3",)),
        (["192.168.7.9/24"], "192.168.7.2", ("192.168.7.3",)),
        (["fec0::9/64", "172.16.9.9/16"], "172.16.2.2", ("172.16.2.3",)),
        (["fec0::9/64"], "", ()),
    ],
)
def test_an_open_guest_has_the_gateway_and_name_server_of_its_network(
    addresses: list[str], gateway: str, dns: tuple[str, ...]
) -> None:
    resolved = network.resolve(user(restrict=False, addresses=addresses))
    assert (resolved.addresses, resolved.gateway, resolved.dns) == (tuple(addresses), gateway, dns)


def test_an_open_guest_without_a_configured_address_has_that_of_qemu() -> None:
    resolved = network.resolve(user(restrict=False))
    assert (resolved.addresses, resolved.gateway, resolved.dns) == (("10.0.2.15/24",), "10.0.2.2", ("10.0.2.3",))


def test_what_the_caller_configured_is_kept() -> None:
    wanted = user(restrict=False, addresses=["10.0.2.20/24"], gateway="10.0.2.9", dns=["10.0.2.8"])
    assert network.resolve(wanted) == wanted
    assert network.resolve(tap("tap0")) == tap("tap0")


# -- QEMU's arguments --------------------------------------------------------------------------------------------------


def arguments(*wanted: Device) -> list[str]:
    return [argument for argument in network.arguments(wanted, [7, 8, 9]) if not argument.startswith("-")]


def test_a_vm_has_no_interface_by_default() -> None:
    assert arguments(Channel("c", "n"), NetworkInterface(NetworkConfig(), MAC)) == []


def test_a_user_network_is_restricted_and_has_no_ipv6_by_default() -> None:
    assert arguments(user()) == [
        "user,id=net0,restrict=on,ipv4=on,ipv6=off",
        f"virtio-net-pci,netdev=net0,mac={MAC},romfile=,disable-legacy=on",
    ]
    assert arguments(user(restrict=False))[0] == "user,id=net0,restrict=off,ipv4=on,ipv6=off"


def test_a_user_network_is_that_of_the_guests_addresses() -> None:
    given = user(addresses=["10.9.3.3/16", "fd00::3/64"], gateway="10.9.0.1", forwards=[PortForward(22)])
    assert arguments(given)[0] == (
        "user,id=net0,restrict=on,ipv4=on,ipv6=on,net=10.9.0.0/16,ipv6-net=fd00::/64,host=10.9.0.1,"
        "hostfwd=tcp:127.0.0.1:0-10.9.3.3:22"
    )


def test_guest_ports_share_a_user_network() -> None:
    netdev, device = arguments(GuestPort("ssh", 22), user(forwards=[PortForward(53, 5353, "udp")]))
    assert netdev.endswith(",hostfwd=udp:127.0.0.1:5353-:53,hostfwd=tcp:127.0.0.1:0-:22")
    assert MAC in device


@pytest.mark.parametrize(("others", "before"), [((), 0), ((tap("t"),), 2)])
def test_guest_ports_have_an_interface_of_their_own_without_a_user_network(
    others: tuple[Device, ...], before: int
) -> None:
    found = arguments(GuestPort("ssh", 22), *others)
    id = f"net{before // 2}"
    assert found[before:] == [
        f"user,id={id},restrict=on,ipv4=on,ipv6=off,hostfwd=tcp:127.0.0.1:0-:22",
        f"virtio-net-pci,netdev={id},mac=02:00:00:00:00:01,romfile=,disable-legacy=on",
    ]
    expected = ["tap,id=net0,fd=7", f"virtio-net-pci,netdev=net0,mac={MAC},romfile=,disable-legacy=on"]
    assert found[:before] == expected[:before]


def test_further_interfaces_follow_the_first_and_that_for_guest_ports_comes_last() -> None:
    found = [one.partition(",mac=")[0] for one in arguments(tap("a"), GuestPort("ssh", 22), tap("b"))]
    device = "virtio-net-pci,netdev="
    assert [one.partition(",restrict")[0] for one in found] == [
        *("tap,id=net0,fd=7", f"{device}net0", "tap,id=net1,fd=8", f"{device}net1", "user,id=net2", f"{device}net2")
    ]
    assert [one for one in arguments(user(), tap("a")) if one.startswith("tap")] == ["tap,id=net1,fd=7"]


def test_a_network_that_cannot_work_is_refused() -> None:
    with pytest.raises(ConfigError, match="tcp port 80 of the host is forwarded twice"):
        devices.check(user(forwards=[PortForward(1, 80), PortForward(2, 80)]), (), QemuConfig())
    with pytest.raises(ConfigError, match="give an IPv4 address too"):
        devices.check(user(addresses=["fd00::3/64"]), (), QemuConfig())
    with pytest.raises(ConfigError, match="connects these to tap devices only"):
        devices.check(user(), [tap("t")], QemuConfig())
    with pytest.raises(ConfigError, match="8 of the kind at most"):
        devices.check(tap("t"), [tap("t")] * 8, QemuConfig())
    shares = [SharedDirectory(f"tag{number}", Path("/x")) for number in range(18)]
    with pytest.raises(ConfigError, match="25 shared directories and network interfaces at most"):
        devices.check(tap("t"), [*shares, *([tap("t")] * 7)], QemuConfig())
    with pytest.raises(ConfigError, match="two devices have the name 'n'"):
        devices.check(GuestPort("n", 22), [Channel("c", "n")], QemuConfig())
    with pytest.raises(ConfigError, match=r"PortForward\.guest_port is 0"):
        devices.check(GuestPort("n", 0), (), QemuConfig())


def test_ports_are_read_from_qemus_answer() -> None:
    usernet = """Hub -1 (net0):\r
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r
  TCP[ESTABLISHED]   12       127.0.0.1 40000       10.0.2.15    80     0     0\r
  UDP[HOST_FORWARD]   3       127.0.0.1 43057       10.0.2.15    80     0     0\r
  TCP[HOST_FORWARD]   9       127.0.0.1 2222        10.0.2.15    80     0     0\r
  TCP[HOST_FORWARD]   8       127.0.0.1 38715       10.0.2.15    80     0     0\r
"""
    wanted = (PortForward(80), PortForward(80, 2222), PortForward(80, 0, "udp"))
    assert network.chosen(wanted, usernet) == (
        PortForward(80, 38715),
        PortForward(80, 2222),
        PortForward(80, 43057, "udp"),
    )
    with pytest.raises(HypervisorError, match="does not list the ports of the host"):
        network.chosen((PortForward(81),), usernet)


# -- what a stopped VM shows -------------------------------------------------------------------------------------------


def test_ports_are_open_to_this_host_alone_and_saved(make: Make) -> None:
    asked = (PortForward(80), PortForward(53, 0, "udp"), PortForward(443))
    hypervisor = make()
    hypervisor.add_device(GuestPort("ssh", 22))
    hypervisor.add_device(user(forwards=asked))

    async def use(pid: int) -> None:
        forwards = await hypervisor.forwards()
        assert [(one.guest_port, one.protocol) for one in forwards] == [(80, "tcp"), (53, "udp"), (443, "tcp")]
        saved: Any = json.loads(json.dumps(hypervisor.save()))
        ports = {("tcp", saved["ports"]["ssh"]), *((one.protocol, one.host_port) for one in forwards)}
        assert listeners(pid) == {(protocol, "0100007F", port) for protocol, port in ports}  # 127.0.0.1
        heir = make(saved=saved)
        assert await heir.forwards() == forwards
        assert heir.save() == saved
        (await heir.open_channel("ssh")).close()
        await heir.aclose()

    live(hypervisor, use)


def test_a_vm_of_an_older_driver_has_no_ports(make: Make) -> None:
    async def use(pid: int) -> None:
        saved = {key: hypervisor.save()[key] for key in ("process", "acceleration", "channels")}
        assert await make(saved=saved).forwards() == ()

    hypervisor = make()
    live(hypervisor, use)


def test_a_vm_without_network_listens_nowhere(make: Make) -> None:
    hypervisor = make()

    async def use(pid: int) -> None:
        assert await hypervisor.forwards() == ()
        assert listeners(pid) == set()

    live(hypervisor, use)


def failing(hypervisor: QemuHypervisor, text: str) -> None:
    async def run() -> None:
        with pytest.raises(VMStartError, match=text):
            await hypervisor.prepare(60)

    asyncio.run(run())


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_port_of_the_host_that_is_in_use_is_refused_by_its_number(
    make: Make, tmp_path: Path, protocol: Literal["tcp", "udp"]
) -> None:
    async def use(pid: int) -> None:
        [taken] = await first.forwards()
        second = make(run_dir=tmp_path / "run" / "p2")
        second.add_device(user(forwards=[PortForward(81, taken.host_port, protocol)]))
        with pytest.raises(VMStartError, match=f"{protocol} port {taken.host_port} of 127.0.0.1 .*: Address already"):
            await second.prepare(60)

    first = make()
    first.add_device(user(forwards=[PortForward(80, 0, protocol)]))
    live(first, use)


def test_a_port_that_another_process_takes_meanwhile_is_reported_with_qemus_message(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hostnet, "check_free", lambda forwards: None)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        hypervisor = make()
        hypervisor.add_device(user(forwards=[PortForward(80, port)]))
        failing(hypervisor, f"did not start: QEMU exited with status 1: .*'tcp:127.0.0.1:{port}-:80'")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("vcnone", "device 'vcnone' does not exist; make it"),
        pytest.param("lo", "device 'lo' is not a tap device", marks=pytest.mark.needs("/dev/net/tun")),
    ],
)
def test_a_network_device_that_cannot_be_used_is_refused_by_name(make: Make, name: str, text: str) -> None:
    hypervisor = make()
    hypervisor.add_device(tap(name))
    failing(hypervisor, text)


def test_the_file_without_which_no_network_device_can_be_used_is_named(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(hostnet, "_TUN", tmp_path / "tun")
    hypervisor = make()
    hypervisor.add_device(tap("lo"))
    failing(hypervisor, f"device 'lo' cannot be opened: {tmp_path}/tun: No such file or directory")


@pytest.mark.root
def test_a_tap_device_is_found_in_the_network_namespace_of_the_process_that_opens_it(tmp_path: Path) -> None:
    """A process in a namespace of its own, to which /sys shows the interfaces of another one."""
    code = (
        "import os; from vc_hypervisor_qemu.hostnet import open_tap; "
        "assert not os.path.exists('/sys/class/net/vcinside'); print(open_tap('vcinside') > 2)"
    )
    script = f'ip tuntap add dev vcinside mode tap && exec "{sys.executable}" -c "{code}"'
    found = subprocess.run(["unshare", "--net", "sh", "-c", script], check=True, capture_output=True, encoding="utf-8")
    assert found.stdout == "True\n"


@pytest.mark.root
def test_a_tap_device_serves_one_vm(make: Make, tap_device: str, tmp_path: Path) -> None:
    first, second = make(), make(run_dir=tmp_path / "run" / "p2")
    for hypervisor in (first, second):
        hypervisor.add_device(tap(tap_device))

    async def use(pid: int) -> None:
        with pytest.raises(VMStartError, match=f"device '{tap_device}' cannot be opened: another process uses it"):
            await second.prepare(60)

    live(first, use)
    live(second, lambda pid: asyncio.sleep(0))


# -- what a guest sees -------------------------------------------------------------------------------------------------


async def hear(connect: Callable[[], Awaitable[socket.socket]]) -> bytes:
    """Return all that comes from a connection."""
    said = b""
    async with asyncio.timeout(PATIENCE):
        with await connect() as client:
            while some := await asyncio.get_running_loop().sock_recv(client, 4096):
                said += some
    return said


@pytest.fixture
def service() -> Iterator[int]:
    """A port of this host's 127.0.0.1 where connections are taken."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.vm
def test_a_user_network_forwards_ports_and_reaches_the_host_if_not_restricted(
    make: Make, guest_boot: Boot, service: int
) -> None:
    async def run() -> None:
        hypervisor = make(guest_boot)
        hypervisor.add_device(Channel("test", "test"))
        hypervisor.add_device(GuestPort("port", 7))
        hypervisor.add_device(user(restrict=False, forwards=[PortForward(8)]))
        async with booted(hypervisor) as channel:
            [forward] = await hypervisor.forwards()
            assert await ask(channel, "/sys/class/net/eth0/address") == MAC
            assert await ask(channel, "/sys/class/net/eth1/address") == ""
            assert await ask(channel, "LISTEN eth0 10.0.2.15 8") == "LISTENING"
            assert await hear(lambda: hostnet.connect(forward.host_port)) == b"hello from port 8\n"
            assert await hear(lambda: hypervisor.open_channel("port")) == b""  # nothing listens there yet
            assert await ask(channel, "LISTEN eth0 10.0.2.15 7") == "LISTENING"
            await hypervisor.aclose()
            heir = make(boot=None, saved=hypervisor.save())
            assert await hear(lambda: heir.open_channel("port")) == b"hello from port 7\n"
            await heir.aclose()
            assert await ask(channel, f"REACH 10.0.2.2 {service}") == "REACHED"

    asyncio.run(run())


@pytest.mark.vm
@pytest.mark.root
@pytest.mark.parametrize("machine", ["pc", "microvm"])
def test_a_guest_on_a_tap_device_has_a_second_interface_for_guest_ports(
    make: Make, guest_boot: Boot, tap_device: str, service: int, machine: str
) -> None:
    async def run() -> None:
        hypervisor = make(guest_boot, options={"machine": machine})
        hypervisor.add_device(GuestPort("port", 7))
        hypervisor.add_device(Channel("test", "test"))
        hypervisor.add_device(tap(tap_device))
        async with booted(hypervisor) as channel:
            assert await ask(channel, "/sys/class/net/eth0/address") == MAC
            assert await ask(channel, "LISTEN eth0 198.51.100.2 8") == "LISTENING"
            assert await ask(channel, "LISTEN eth1 10.0.2.15 7") == "LISTENING"
            with socket.create_connection(("198.51.100.2", 8), timeout=PATIENCE) as client:
                assert client.recv(100) == b"hello from port 8\n"
            assert await hear(lambda: hypervisor.open_channel("port")) == b"hello from port 7\n"
            assert await ask(channel, f"REACH 10.0.2.2 {service}") != "REACHED"

    asyncio.run(run())


@pytest.mark.vm
@pytest.mark.root
def test_a_clone_is_on_the_tap_device_of_its_pod_and_its_template_was_on_none(
    make: Make, guest_boot: Boot, tap_device: str, tmp_path: Path
) -> None:
    template = tmp_path / "template"
    template.mkdir(mode=0o700)

    async def run() -> None:
        saved = make(guest_boot)
        saved.add_device(Channel("test", "test"))
        saved.add_device(replace(tap(tap_device), detached=True))
        saved.use_template(template, True)
        async with booted(saved) as channel:
            assert Path(f"/sys/class/net/{tap_device}/carrier").read_text(encoding="utf-8") == "0\n"
            assert not Path("/sys/class/net/template").exists()
            channel.close()
            await saved.save_template(10)
        clone = make(guest_boot)
        clone.add_device(Channel("test", "test"))
        clone.add_device(tap(tap_device))
        clone.use_template(template, False)
        try:
            await clone.prepare(60)
            await clone.start(60)
            with await clone.open_channel("test") as channel:
                assert await ask(channel, "LISTEN eth0 198.51.100.2 8") == "LISTENING"
                with socket.create_connection(("198.51.100.2", 8), timeout=PATIENCE) as client:
                    assert client.recv(100) == b"hello from port 8\n"
        finally:
            await clone.stop(10)
            await clone.aclose()

    asyncio.run(run())
