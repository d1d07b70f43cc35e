"""Pods with a network."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import vc_core as vc
from vc_core.config.network import NetworkMode
from waiting import PATIENCE

from .conftest import container, virtc

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.hypervisors("qemu", "libvirt")]


@pytest.fixture(scope="module")
def connected(bundle: Path, root: Path) -> Iterator[vc.Pod]:
    """Return a pod whose container answers on port 80, which leads there from a port of the host."""
    config = vc.PodConfig(
        id="connected",
        network=vc.NetworkConfig(mode=NetworkMode.USER, forwards=[vc.PortForward(80)]),
        containers=[container(bundle, "sh", "-c", "while echo hello | nc -l -p 80; do :; done")],
    )
    made = vc.run_pod(config)
    yield made
    made.delete(force=True)


def test_a_forwarded_port_leads_to_the_container(connected: vc.Pod) -> None:
    [forward] = connected.status().forwards
    assert (forward.guest_port, forward.protocol) == (80, "tcp")
    end = time.monotonic() + PATIENCE
    # Before the guest listens QEMU takes a connection, and closes it.
    while (output := _line_from(forward.host_port)) == b"" and time.monotonic() < end:
        pass
    assert output == b"hello\n"


def _line_from(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client, client.makefile("rb") as lines:
        try:
            return lines.readline()
        except ConnectionResetError:
            return b""


def test_status_shows_where_a_forwarded_port_is(connected: vc.Pod) -> None:
    output = virtc("pod", "status", "connected").stdout.decode()
    assert re.search(r"^pod +port 80/tcp +127\.0\.0\.1:\d+$", output, flags=re.MULTILINE), output


def test_nothing_else_of_this_host_listens_for_it(connected: vc.Pod) -> None:
    [forward] = connected.status().forwards
    listening = [
        line.split()[1] for line in Path("/proc/net/tcp").read_text(encoding="utf-8").splitlines()[1:] if " 0A " in line
    ]
    assert f"0100007F:{forward.host_port:04X}" in listening
    assert f"00000000:{forward.host_port:04X}" not in listening


def test_the_guest_has_its_address_and_no_way_out(connected: vc.Pod) -> None:
    output = (
        connected.container("c1").enter(vc.Cmd(args=["sh", "-c", "ip -4 addr show eth0; ip route"])).stdout.decode()
    )
    assert "10.0.2.15/24" in output
    assert "default" not in output


def test_a_restricted_guest_reaches_nothing_of_the_host(connected: vc.Pod) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        script = f"ip route add default via 10.0.2.2; nc -w 3 10.0.2.2 {port} </dev/null"
        assert connected.enter(vc.Cmd(args=["sh", "-c", script])).exit_code != 0
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_an_open_guest_reaches_the_host_and_its_containers_have_a_name_server(bundle: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        config = vc.PodConfig(
            id="open",
            network=vc.NetworkConfig(mode=NetworkMode.USER, restrict=False, dns=["192.0.2.53"]),
            containers=[container(bundle)],
        )
        with vc.run_pod(config) as made:
            taken: list[bytes] = []
            taking = threading.Thread(target=lambda: taken.append(_answered(server)))
            taking.start()
            script = f"cat /etc/resolv.conf; echo from the guest | nc 10.0.2.2 {server.getsockname()[1]}"
            result = made.container("c1").enter(vc.Cmd(args=["sh", "-c", script]), timeout=60)
            taking.join()
    assert result.stdout == b"nameserver 192.0.2.53\nbye\n"
    assert taken == [b"from the guest\n"]


def _answered(server: socket.socket) -> bytes:
    server.settimeout(PATIENCE)
    client, _ = server.accept()
    with client, client.makefile("rwb") as lines:
        output: bytes = lines.readline()
        lines.write(b"bye\n")
        return output


@pytest.fixture
def taps() -> Iterator[tuple[str, str]]:
    """Return the names of two tap devices of the host, which has the address 1 in their networks."""
    names = f"vct{os.getpid()}a", f"vct{os.getpid()}b"
    with ExitStack() as stack:
        for name, address in zip(names, ("198.51.100.1/24", "203.0.113.1/24"), strict=True):
            subprocess.run(["ip", "tuntap", "add", "dev", name, "mode", "tap"], check=True)
            stack.callback(subprocess.run, ["ip", "link", "delete", name], check=True)
            subprocess.run(["ip", "address", "add", address, "dev", name], check=True)
            subprocess.run(["ip", "link", "set", name, "up"], check=True)
        yield names


@pytest.mark.hypervisors("qemu")
@pytest.mark.needs("ip", "/dev/net/tun")
@pytest.mark.parametrize("agent", ["hyperstart", "sshd"])
def test_a_pod_reaches_a_network_by_each_of_its_interfaces(bundle: Path, taps: tuple[str, str], agent: str) -> None:
    first, second = taps
    words = ["--agent", agent, "--tap", first, "--address", "198.51.100.7/24"]
    words += ["--interface", f"{second},address=203.0.113.7/24,mac=52:54:00:12:34:56"]
    script = "cat /sys/class/net/eth1/address; ping -c 4 -q -I eth0 198.51.100.1 && ping -c 4 -q -I eth1 203.0.113.1"
    done = virtc("pod", "run", "-i", "--rm", *words, "--bundle", str(bundle), "--", "sh", "-c", script)
    assert done.returncode == 0, done
    assert done.stdout.startswith(b"52:54:00:12:34:56\n")
    assert re.findall(rb"\b[1-4] packets received", done.stdout)[1:], done.stdout


def test_a_pod_without_a_network_has_no_interface_but_its_own_loopback(pod: vc.Pod) -> None:
    output = pod.enter_container("c1", vc.Cmd(args=["ls", "/sys/class/net"])).stdout
    assert output == b"lo\n"


def test_a_port_of_the_host_that_is_taken_is_named(bundle: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = virtc("pod", "run", "--id", "taken", "--bundle", str(bundle), "--publish", f"{port}:80", "--", "true")
    assert done.returncode == 1
    assert str(port) in done.stderr.decode()
    assert vc.list_pods() == [] or "taken" not in [one.id for one in vc.list_pods()]
