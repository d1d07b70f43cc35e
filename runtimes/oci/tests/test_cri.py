"""kubelet's calls of containerd: the containers of a sandbox are in one virtual machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from containerd_host import IMAGE, Containerd, Cri
from containerd_host import containerd as made_containerd
from engine_host import MARKS, wait_for

pytestmark = [pytest.mark.engine, pytest.mark.needs("containerd", "CNI plug-ins"), *MARKS]

#: States of containers and sandboxes in cri.proto.
RUNNING, EXITED, NOT_READY = 1, 2, 1

BOOT_ID = "/proc/sys/kernel/random/boot_id"

#: Prints what a command in a container writes, of a WebSocket that the CRI offers; its channels are in the first byte.
_STREAM = """
import sys, websocket
stream = websocket.create_connection(sys.argv[1].replace("http", "ws", 1), subprotocols=["v4.channel.k8s.io"])
stream.send_binary(b"\\0typed\\n")
while part := stream.recv():
    sys.stdout.buffer.write(part + b"|")
"""

#: Prints a page of a port of a sandbox, by a WebSocket that the CRI offers; its channels are in the first byte.
_FORWARD = """
import sys, websocket
url = sys.argv[1].replace("http", "ws", 1) + "?port=" + sys.argv[2]
stream = websocket.create_connection(url, subprotocols=["v4.channel.k8s.io"], timeout=60)
stream.recv(), stream.recv()  # the number of the port, for each of its channels
stream.send_binary(b"\\0GET /passwd HTTP/1.0\\r\\n\\r\\n")
while part := stream.recv():
    sys.stdout.buffer.write(part)
"""


@pytest.fixture(scope="module")
def containerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containerd]:
    pytest.importorskip("grpc_tools", reason="grpcio-tools is not installed; ./dev engines installs it")
    with made_containerd(tmp_path_factory.mktemp("cri")) as made:
        yield made


@pytest.fixture(scope="module")
def cri(containerd: Containerd) -> Iterator[Cri]:
    client = Cri(containerd.address)
    yield client
    client.close()


@pytest.fixture(scope="module")
def config(containerd: Containerd) -> dict[str, Any]:
    """Return the configuration of a sandbox."""
    return {
        "metadata": {"name": "pod", "uid": "1", "namespace": "tests"},
        "hostname": "podhost",
        "log_directory": str(containerd.host.top / "logs"),
        "dns_config": {"servers": ["192.0.2.53"]},
        "annotations": {"io.virtcontainers.memory": "320"},
        "linux": {"cgroup_parent": f"/{containerd.host.cgroup}", "sysctls": {"net.ipv4.ip_default_ttl": "61"}},
    }


@pytest.fixture(scope="module")
def sandbox(cri: Cri, config: dict[str, Any]) -> str:
    return str(cri("RunPodSandbox", config=config, runtime_handler="vc").pod_sandbox_id)


@pytest.fixture(scope="module")
def started(cri: Cri, config: dict[str, Any], sandbox: str) -> Callable[..., str]:
    """Return a function that creates and starts a container of the sandbox."""

    def start(name: str, *command: str, **fields: Any) -> str:
        container = {"metadata": {"name": name}, "image": {"image": IMAGE}, "log_path": f"{name}.log"}
        container |= {"command": command, **fields}
        made = cri("CreateContainer", pod_sandbox_id=sandbox, config=container, sandbox_config=config).container_id
        cri("StartContainer", container_id=made)
        return str(made)

    return start


@pytest.fixture(scope="module")
def containers(started: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return two containers of the sandbox: one in a pid namespace of its own, one in that of the pod."""
    volume = {"container_path": "/data", "host_path": str(tmp_path_factory.mktemp("volume")), "readonly": True}
    own = {"security_context": {"namespace_options": {"pid": "CONTAINER"}, "run_as_user": {"value": 1000}}}
    script = 'echo out; echo wrong >&2; trap "exit 9" TERM; while true; do sleep 0.1; done'
    return [
        started("one", "sh", "-c", script, mounts=[volume], linux=own, envs=[{"key": "COLOUR", "value": "blue"}]),
        started("two", "sleep", "100001"),
    ]


def status(cri: Cri, container: str) -> Any:
    return cri("ContainerStatus", container_id=container).status


def output(cri: Cri, container: str, *command: str) -> str:
    """Return what a command in a container writes."""
    done = cri("ExecSync", container_id=container, cmd=command, timeout=60)
    assert done.exit_code == 0, done.stderr
    return str(done.stdout.decode())


def test_the_containers_of_a_sandbox_are_in_one_vm(containerd: Containerd, cri: Cri, containers: list[str]) -> None:
    one, two = (output(cri, container, "cat", BOOT_ID) for container in containers)
    assert one == two
    assert len(containerd.host.pods()) == 1
    assert [status(cri, container).state for container in containers] == [RUNNING, RUNNING]


def test_the_sandbox_has_the_network_names_and_size_that_kubelet_asks_for(
    cri: Cri, sandbox: str, containers: list[str]
) -> None:
    address = cri("PodSandboxStatus", pod_sandbox_id=sandbox).status.network.ip
    assert f"inet {address}/24" in output(cri, containers[0], "ip", "addr", "show", "eth0")
    assert "ttl=64" in output(cri, containers[1], "ping", "-c", "1", "10.88.77.1")  # the bridge
    script = "hostname; cat /etc/resolv.conf /proc/sys/net/ipv4/ip_default_ttl; head -1 /proc/meminfo"
    name, server, ttl, memory = output(cri, containers[1], "sh", "-c", script).splitlines()
    assert (name, server, ttl) == ("podhost", "nameserver 192.0.2.53", "61")
    assert 256 * 1024 < int(memory.split()[1]) < 320 * 1024


def test_a_container_has_its_user_environment_and_pid_namespace(cri: Cri, containers: list[str]) -> None:
    one, two = containers
    assert output(cri, one, "sh", "-c", "id -u; echo $COLOUR").split() == ["1000", "blue"]
    assert "sh -c echo out" in output(cri, one, "ps").splitlines()[1]
    shared = output(cri, two, "ps").splitlines()
    assert "/init" in shared[1], "its pid namespace is not that of the pod"
    assert "sleep 100001" in shared[2]


def test_a_command_returns_its_streams_and_exit_code(cri: Cri, containers: list[str]) -> None:
    command = ["sh", "-c", "echo out; echo wrong >&2; exit 3"]
    done = cri("ExecSync", container_id=containers[0], cmd=command, timeout=60)
    assert (done.stdout, done.stderr, done.exit_code) == (b"out\n", b"wrong\n", 3)


def test_a_command_that_takes_too_long_is_ended_in_the_vm(cri: Cri, containers: list[str]) -> None:
    with pytest.raises(cri.error, match="timeout 1s exceeded"):
        cri("ExecSync", container_id=containers[0], cmd=["sleep", "77777"], timeout=1)
    wait_for(lambda: "sleep 77777" not in output(cri, containers[0], "ps"), "the command goes on")


def test_a_command_is_streamed(containerd: Containerd, cri: Cri, containers: list[str]) -> None:
    command = ["sh", "-c", "read x; echo got $x; exit 5"]
    url = cri("Exec", container_id=containers[0], cmd=command, stdin=True, stdout=True, stderr=True).url
    written = containerd.host.run(sys.executable, "-c", _STREAM, url).stdout
    _, answer, end = written.strip("|").split("|")[:3]
    assert (answer, end[0]) == ("\x01got typed\n", "\x03")
    assert json.loads(end[1:])["details"]["causes"] == [{"reason": "ExitCode", "message": "5"}]


def test_a_port_is_forwarded_from_what_listens_for_the_vm_itself_which_no_other_host_reaches(
    containerd: Containerd, cri: Cri, sandbox: str, started: Callable[..., str]
) -> None:
    listen = "httpd -f -p 127.0.0.{}:7070 -h /etc"
    listener = started("listener", "sh", "-c", f"{listen.format(1)} & {listen.format(9)}")
    wait_for(lambda: output(cri, listener, "netstat", "-ltn").count("127.0.0.") == 2, "it does not listen")
    url = cri("PortForward", pod_sandbox_id=sandbox, port=[7070]).url
    assert "bob" in containerd.host.run(sys.executable, "-c", _FORWARD, url, "7070").stdout
    address = cri("PodSandboxStatus", pod_sandbox_id=sandbox).status.network.ip
    # A host may send to such an address of another one, and take the replies.
    containerd.host.run("sh", "-c", "echo 1 >/proc/sys/net/ipv4/conf/vc-tests/route_localnet")
    route = ("127.0.0.9/32", "via", address, "dev", "vc-tests", "table", "local")
    containerd.host.run("ip", "route", "replace", *route)
    page = ("timeout", "3", "busybox", "wget", "-qO-", "http://127.0.0.9:7070/passwd")
    reached = containerd.host.run(*page, check=False).stdout
    containerd.host.run("ip", "route", "del", *route)
    assert reached == ""
    cri("RemoveContainer", container_id=listener)


def test_statistics_of_the_pod_are_those_of_the_vm(containerd: Containerd, cri: Cri, sandbox: str) -> None:
    group = Path("/sys/fs/cgroup/memory", containerd.host.cgroup, sandbox)
    assert int((group / "memory.usage_in_bytes").read_bytes()) > 2**25


def test_limits_of_a_container_change(cri: Cri, containers: list[str]) -> None:
    cri("UpdateContainerResources", container_id=containers[0], linux={"memory_limit_in_bytes": 2**26})
    assert cri("ContainerStats", container_id=containers[0]).stats.HasField("memory")


def test_a_container_that_exceeds_its_memory_ends_with_that_reason_and_the_others_go_on(
    cri: Cri, containers: list[str], started: Callable[..., str]
) -> None:
    limited = {"resources": {"memory_limit_in_bytes": 2**25}}
    eater = started("eater", "sh", "-c", "exec tail /dev/zero", linux=limited)
    wait_for(lambda: status(cri, eater).state == EXITED, "it has not ended")
    wait_for(lambda: status(cri, eater).reason == "OOMKilled", "containerd has another reason")
    assert status(cri, eater).exit_code == 128 + signal.SIGKILL
    assert [status(cri, container).state for container in containers] == [RUNNING, RUNNING]


def test_what_a_container_writes_is_in_its_log(containerd: Containerd, containers: list[str]) -> None:
    lines = (containerd.host.top / "logs/one.log").read_text(encoding="utf-8").splitlines()
    assert sorted(line.split(maxsplit=1)[1] for line in lines) == ["stderr F wrong", "stdout F out"]


def test_a_container_ends_without_the_others_and_another_takes_its_place(
    cri: Cri, containers: list[str], started: Callable[..., str]
) -> None:
    one, two = containers
    cri("StopContainer", container_id=one, timeout=60)
    assert (status(cri, one).state, status(cri, one).exit_code) == (EXITED, 9)
    cri("RemoveContainer", container_id=one)
    again = started("one", "sh", "-c", "exit 4")
    wait_for(lambda: status(cri, again).state == EXITED, "it has not ended")
    assert status(cri, again).exit_code == 4
    assert output(cri, two, "echo", "on") == "on\n"


def test_the_death_of_the_vm_ends_the_sandbox_and_nothing_of_it_is_left(
    containerd: Containerd, cri: Cri, sandbox: str, containers: list[str]
) -> None:
    found = subprocess.run(["pgrep", "-f", f"qemu.* guest={sandbox},"], capture_output=True, check=True)
    os.kill(int(found.stdout.split()[-1]), signal.SIGKILL)
    wait_for(lambda: status(cri, containers[1]).state == EXITED, "the container has not ended")
    assert status(cri, containers[1]).exit_code == 255
    wait_for(
        lambda: cri("PodSandboxStatus", pod_sandbox_id=sandbox).status.state == NOT_READY, "the sandbox has not ended"
    )
    cri("StopPodSandbox", pod_sandbox_id=sandbox)
    cri("RemovePodSandbox", pod_sandbox_id=sandbox)
    assert containerd.host.pods() == []
    assert containerd.host.records() == []


def test_a_sandbox_that_is_stopped_takes_its_containers_along(
    containerd: Containerd, cri: Cri, config: dict[str, Any]
) -> None:
    pod = cri("RunPodSandbox", config=config, runtime_handler="vc").pod_sandbox_id
    container = {"metadata": {"name": "c"}, "image": {"image": IMAGE}, "command": ["sleep", "100001"]}
    made = cri("CreateContainer", pod_sandbox_id=pod, config=container, sandbox_config=config).container_id
    cri("StartContainer", container_id=made)
    cri("StopPodSandbox", pod_sandbox_id=pod)
    assert status(cri, made).state == EXITED
    cri("RemovePodSandbox", pod_sandbox_id=pod)
    assert containerd.host.pods() == []
