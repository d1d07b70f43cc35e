"""A VM gets what an engine has configured in a network namespace, in one of the test's own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.root, pytest.mark.needs("unshare", "ip", "/dev/net/tun")]

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
    made = network.connect(Log(Path(sys.argv[1]), "text"))
print(made.mode, made.device, made.mac, made.mtu, *made.addresses, made.gateway, *made.routes)
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
    wanted = "tap vc-tap0 02:11:22:33:44:55 1400 10.1.1.2/24 10.1.1.1 10.9.0.0/16=10.1.1.7\nmtu 1400\n"
    assert connected(tmp_path / "log", _INTERFACE, times) == wanted


def test_a_namespace_without_an_interface_gives_no_network(tmp_path: Path) -> None:
    assert connected(tmp_path / "log", "ip link set lo up").split()[0] == "none"


def test_a_second_interface_is_left_out_with_a_note(tmp_path: Path) -> None:
    second = "ip link add eth1 type veth peer name other; ip addr add 10.2.2.2/24 dev eth1; ip link set eth1 up"
    connected(tmp_path / "log", f"{_INTERFACE}\n{second}")
    assert "is left out: a VM has one" in (tmp_path / "log").read_text(encoding="utf-8")
