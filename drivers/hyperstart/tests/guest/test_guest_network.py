"""The pod's network, and devices that the host adds while the VM runs."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from guest_vm import VM, Qmp, RawHost, booted, make_root_fs

from vc_agent_hyperstart.codec import Code
from vc_core.driver import GuestImage

pytestmark = pytest.mark.vm

#: QEMU's own network, which reaches nothing; its gateway answers to ping.
NETWORK = "user,restrict=on,ipv4=on,ipv6=on"
GATEWAY, GATEWAY6 = "10.0.2.2", "fec0::2"

POD = {
    "hostname": "pod-host",
    "shareDir": "share",
    "containers": [],
    "interfaces": [
        {
            "device": "eth0",
            "newDeviceName": "wan0",
            "ipAddresses": [
                {"ipAddress": "10.0.2.15", "netMask": "255.255.255.0"},
                {"ipAddress": "fec0::15", "netMask": "64"},
            ],
            "mtu": 1400,
        }
    ],
    "routes": [
        {"dest": "default", "gateway": GATEWAY, "device": "wan0"},
        {"dest": "any", "gateway": GATEWAY6},
        {"dest": "192.0.2.0/24", "device": "wan0"},
    ],
    "dns": ["10.0.2.3", "fec0::3"],
    "dnsSearch": ["example.org", "example.com"],
    "dnsOptions": ["ndots:2"],
    "portmappingWhiteLists": {"internalNetworks": [], "externalNetworks": []},
}

RESOLVER = b"nameserver 10.0.2.3\nnameserver fec0::3\nsearch example.org example.com\noptions ndots:2\n"

DEVICES = [
    *("-smp", "1,sockets=2,maxcpus=2", "-m", "256,slots=2,maxmem=1G"),
    *("-netdev", f"{NETWORK},id=n0", "-device", "virtio-net-pci,netdev=n0"),
    *("-device", "pcie-root-port,id=room", "-netdev", f"{NETWORK},id=n1"),
]


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory, guest_image: GuestImage) -> Iterator[VM]:
    """A VM with a network interface, and a pod that has a network."""
    with booted(tmp_path_factory.mktemp("vm"), guest_image, devices=DEVICES) as vm:
        host = RawHost(vm)
        host.hello()
        refused = {"portmappingWhiteLists": {"internalNetworks": ["10.0.0.0/8"]}}
        assert host.refused(Code.STARTPOD, {**POD, **refused}) == {
            "reason": "this guest agent does not support 'internalNetworks'"
        }
        missing = {"interfaces": [{"device": "eth7"}]}
        assert host.refused(Code.STARTPOD, {**POD, **missing}) == {"reason": "the VM has no network interface 'eth7'"}
        host.ok(Code.STARTPOD, POD)
        host.start_container("c1", "sleep", "1000000")
        host.close()
        yield vm


def ip(host: RawHost, *args: str) -> str:
    status, output, errors = host.run("c1", "busybox", "ip", *args)
    assert (status, errors) == (0, b"")
    return output.decode()


def test_modules_of_interfaces_are_loaded_before_the_pod_starts_so_that_templates_have_them(host: RawHost) -> None:
    phases = json.loads(host.ok(Code.TIMES))["phases"]
    loaded = [one["end"] for one in phases if one["name"] == "load kernel modules"]
    assert len(loaded) == 2
    assert max(loaded) <= min(one["begin"] for one in phases if one["name"] == "start the pod")


def test_an_interface_has_its_name_addresses_and_mtu_and_is_up(host: RawHost) -> None:
    text = ip(host, "addr", "show", "dev", "wan0")
    assert re.search(r"wan0: <[^>]*\bUP\b[^>]*> mtu 1400 ", text)
    assert "inet 10.0.2.15/24 brd 10.0.2.255 scope global wan0" in text
    assert "inet6 fec0::15/64" in text


@pytest.mark.parametrize("peer", [GATEWAY, GATEWAY6, "127.0.0.1", "::1"])
def test_the_network_is_reached(host: RawHost, peer: str) -> None:
    status, output, errors = host.run("c1", "ping", "-c", "1", "-W", "10", peer)
    assert status == 0, (output, errors)


def test_routes_are_those_that_were_asked_for(host: RawHost) -> None:
    routes = [line.split() for line in ip(host, "route").splitlines()]
    assert ["default", "via", GATEWAY, "dev", "wan0"] in [route[:5] for route in routes]
    assert ["192.0.2.0/24", "dev", "wan0"] in [route[:3] for route in routes]
    assert f"default via {GATEWAY6} dev wan0" in ip(host, "-6", "route")


def test_containers_and_the_guest_s_own_root_have_the_name_servers(host: RawHost) -> None:
    for container in ("c1", ""):
        assert host.run(container, "cat", "/etc/resolv.conf")[1] == RESOLVER


def test_containers_and_the_guest_s_own_root_have_the_host_name_with_each_address(host: RawHost) -> None:
    name = host.run("c1", "hostname")[1]
    own = b"".join(address.encode() + b"\t" + name for address in ("10.0.2.15", "fec0::15"))
    for container in ("c1", ""):
        assert host.run(container, "cat", "/etc/hostname")[1] == name
        assert host.run(container, "cat", "/etc/hosts")[1].endswith(
            b"::1\tlocalhost ip6-localhost ip6-loopback\n" + own
        )


def test_a_container_changes_its_own_files_of_names_only(host: RawHost) -> None:
    script = "for file in hosts hostname resolv.conf; do echo mine >/etc/$file; done; cat /etc/hosts"
    assert host.finish(host.start_container("names", "sh", "-c", script)) == (0, b"mine\n", b"")
    host.ok(Code.REMOVECONTAINER, {"container": "names"})
    assert host.run("c1", "cat", "/etc/resolv.conf")[1] == RESOLVER
    assert b"mine" not in host.run("c1", "cat", "/etc/hosts", "/etc/hostname")[1]


@pytest.mark.parametrize("link", ["etc", "etc/resolv.conf"])
def test_the_files_of_names_take_the_place_of_links(host: RawHost, extended: VM, link: str) -> None:
    image = f"linked-{len(link)}"
    root = extended.directory / f"share/{image}/rootfs"
    make_root_fs(root)
    if link == "etc":
        (root / "etc").rename(root / "usr-etc")
        (root / "etc").symlink_to("usr-etc")
    else:
        (root / link).symlink_to("/run/somewhere/resolv.conf")
    stdio = host.start_container("linked", "cat", "/etc/resolv.conf", "/etc/hostname", image=image)
    assert host.finish(stdio) == (0, RESOLVER + host.run("c1", "hostname")[1], b"")
    host.ok(Code.REMOVECONTAINER, {"container": "linked"})


def test_an_interface_that_is_added_later_is_set_up_given_routes_and_removed(
    host: RawHost, extended: VM, qmp: Callable[[VM], Qmp]
) -> None:
    qmp(extended)("device_add", driver="virtio-net-pci", netdev="n1", bus="room", id="nic")
    host.ok(
        Code.SETUPINTERFACE, {"device": "eth0", "ipAddress": "198.51.100.7", "netMask": "25", "newDeviceName": "lan0"}
    )
    assert "inet 198.51.100.7/25 brd 198.51.100.127 " in ip(host, "addr", "show", "dev", "lan0")
    host.ok(Code.SETUPROUTE, {"routes": [{"dest": "203.0.113.0/24", "gateway": "198.51.100.1", "device": "lan0"}]})
    assert "203.0.113.0/24 via 198.51.100.1 dev lan0" in ip(host, "route")
    host.ok(Code.SETUPINTERFACE, {"device": "lan0", "mtu": 1300, "mac": "52:54:00:aB:0c:01"})
    shown = ip(host, "link", "show", "dev", "lan0")
    assert " mtu 1300 " in shown
    assert " 52:54:00:ab:0c:01 " in shown
    host.ok(Code.DELETEINTERFACE, {"device": "lan0"})
    assert "lan0" not in ip(host, "link")


@pytest.mark.parametrize(
    ("interface", "reason"),
    [
        ({"device": "eth9"}, "the VM has no network interface 'eth9'"),
        ({"device": "lo", "ipAddress": "300.1.1.1", "netMask": "8"}, "'300.1.1.1' is not an IP address"),
        ({"device": "lo", "ipAddress": "127.0.0.9"}, "'' is not a network mask or prefix length"),
        ({"device": "lo", "ipAddress": "127.0.0.9", "netMask": "33"}, "'33' is not a network mask or prefix length"),
        ({"device": "lo", "ipAddress": "127.0.0.9", "netMask": "255.0.255.0"}, "'255.0.255.0' is not a network mask"),
        ({"device": "lo", "newDeviceName": "x" * 16}, f"'{'x' * 16}' is too long for an interface's name"),
        ({"device": "wan0", "newDeviceName": "lo"}, "interface wan0: cannot be called lo: File exists"),
        ({"device": "wan0", "mac": "52:54:00:00:00"}, "'52:54:00:00:00' is not a MAC address"),
        ({"device": "wan0", "mac": "52:54:00:00:00:01:02"}, "'52:54:00:00:00:01:02' is not a MAC address"),
        ({"device": "wan0", "mac": "ff:ff:ff:ff:ff:ff"}, "MAC address of interface wan0: Address not available"),
        ({"device": "wan0", "mtu": 10}, "mtu 10 of interface wan0: Invalid argument"),
        ({"ipAddresses": []}, "the interface has no 'device'"),
    ],
)
def test_an_interface_that_cannot_be_is_an_error_with_its_reason(
    host: RawHost, interface: dict[str, Any], reason: str
) -> None:
    assert host.refused(Code.SETUPINTERFACE, interface) == {"reason": reason}
    host.ok(Code.SETUPINTERFACE, {"device": "wan0"})  # which trying to rename took down


@pytest.mark.parametrize(
    ("route", "reason"),
    [
        ({"dest": "10.0.0.0/40"}, "'40' is not a network mask or prefix length"),
        ({"dest": "somewhere"}, "'somewhere' is not an IP address"),
        ({"dest": "fec1::/64", "gateway": GATEWAY}, f"route to fec1::/64: its gateway {GATEWAY} is of another kind"),
        ({"dest": "default", "device": "eth9"}, "route to default: there is no interface 'eth9'"),
        ({"dest": "10.9.0.0/16", "gateway": "192.168.7.1"}, "route to 10.9.0.0/16: Network unreachable"),
    ],
)
def test_a_route_that_cannot_be_is_an_error_with_its_reason(host: RawHost, route: dict[str, Any], reason: str) -> None:
    assert host.refused(Code.SETUPROUTE, {"routes": [route]}) == {"reason": reason}


def test_processors_and_memory_that_are_added_later_are_used(
    host: RawHost, extended: VM, qmp: Callable[[VM], Qmp]
) -> None:
    def total() -> int:
        line = host.run("c1", "busybox", "grep", "MemTotal", "/proc/meminfo")[1]
        return int(line.split()[1])

    ask, before = qmp(extended), total()
    assert host.run("c1", "busybox", "nproc")[1] == b"1\n"
    ask("device_add", driver="max-x86_64-cpu", **{"socket-id": 1, "core-id": 0, "thread-id": 0})
    ask("object-add", **{"qom-type": "memory-backend-ram", "id": "more", "size": 128 << 20})
    ask("device_add", driver="pc-dimm", memdev="more", id="dimm")
    # The kernel detects them by events of its own, so the host repeats the command until it has.
    for _ in range(200):
        host.ok(Code.ONLINECPUMEM)
        if host.run("c1", "busybox", "nproc")[1] == b"2\n" and total() - before >= 100 << 10:
            return
    pytest.fail("they are not used")
