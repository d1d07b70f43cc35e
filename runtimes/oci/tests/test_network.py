"""A VM gets what an engine has configured in a network namespace, in one of the test's own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vc_runtime import iproute
from vc_runtime.faults import RuntimeFault

pytestmark = [pytest.mark.root, pytest.mark.needs("unshare", "ip", "tc", "/dev/net/tun")]

_INTERFACE = """
ip link add eth0 address 02:11:22:33:44:55 mtu 1400 type veth peer name outside
ip addr add 10.1.1.2/24 dev eth0
ip link set eth0 up && ip link set outside up
ip route add 10.9.0.0/16 via 10.1.1.7 dev eth0
ip route add default via 10.1.1.1
"""

_CONNECT = """
import sys
from pathlib import Path
from vc_runtime import network
from vc_runtime.faults import Log

for _ in range(int(sys.argv[2])):  # a second time, as after a start that was killed
    made, sysctls = network.connect(Log(Path(sys.argv[1]), "text"))
print(made.mode, made.device, made.mac, made.mtu, *made.addresses, made.gateway, *made.routes)
for one in made.interfaces:
    print(one)
print(*(f"{name}={value}" for name, value in sysctls.items()))
"""


def connected(log: Path, script: str, times: int = 1) -> str:
    command = f'set -e\n{script}\n"$@"\nip link show vc-tap0 2>/dev/null | grep -o "mtu [0-9]*" || true'
    python = [sys.executable, "-c", _CONNECT, str(log), str(times)]
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", command, "sh", *python], capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("times", [1, 2])
def test_the_vm_has_the_addresses_and_routes_of_the_interface(tmp_path: Path, times: int) -> None:
    wanted = "tap vc-tap0 02:11:22:33:44:55 1400 10.1.1.2/24 10.1.1.1 10.9.0.0/16=10.1.1.7 169.254.178.1/32\n"
    wanted += "net.ipv4.conf.all.route_localnet=1\nmtu 1400\n"
    assert connected(tmp_path / "log", _INTERFACE, times) == wanted


def test_a_namespace_without_an_interface_gives_no_network(tmp_path: Path) -> None:
    assert connected(tmp_path / "log", "ip link set lo up").split()[0] == "none"


def test_the_vm_has_an_interface_for_each_of_the_namespace_and_that_of_the_default_route_first(tmp_path: Path) -> None:
    before = "ip link add ether address 02:11:22:33:44:66 mtu 1300 type veth peer name other; ip link set ether up"
    before += "; ip addr add 10.2.2.2/24 dev ether; ip link set other up; ip route add 10.8.0.0/16 via 10.2.2.7"
    first, further, *_ = connected(tmp_path / "log", f"{before}\n{_INTERFACE}").splitlines()
    assert first.startswith("tap vc-tap0 02:11:22:33:44:55 1400 10.1.1.2/24 10.1.1.1 ")
    wanted = "vc-tap1,address=10.2.2.2/24,route=10.8.0.0/16=10.2.2.7,route=169.254.178.2/32,mac=02:11:22:33:44:66"
    assert further == f"{wanted},mtu=1300"


def test_an_interface_beyond_eight_is_left_out_with_a_note(tmp_path: Path) -> None:
    add = "ip link add a$n type veth peer name b$n; ip addr add 10.$n.0.2/24 dev a$n; ip link set a$n up"
    made = connected(tmp_path / "log", f"for n in 1 2 3 4 5 6 7 8 9; do {add}; done")
    assert made.count("address=") == 7
    assert "a9 is left out: a VM has 8 at most" in (tmp_path / "log").read_text(encoding="utf-8")


def test_a_change_that_the_kernel_refuses_is_named_with_its_reason() -> None:
    with pytest.raises(RuntimeFault, match="ip link set dev nothing up: Cannot find device"):
        iproute.change("ip", ["link show dev lo", "link set dev nothing up", "link show dev lo"])


def test_without_the_commands_the_error_names_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(iproute, "_DIRECTORIES", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeFault, match="ip cannot be executed: No such file or directory; install iproute2"):
        iproute.links()
