"""docker runs containers in virtual machines: what a user types, end to end."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker_host import IMAGE, Docker, made_docker
from engine_host import MARKS, wait_for
from terminals import typed

pytestmark = [pytest.mark.engine, pytest.mark.needs("dockerd"), *MARKS]


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    with made_docker(tmp_path_factory.mktemp("docker")) as made:
        yield made


@pytest.fixture(scope="module")
def web(docker: Docker) -> str:
    """Return a container that serves a page, and counts in its log."""
    serve = 'mkdir /www; echo served >/www/page; httpd -p 80 -h /www; trap "exit 9" TERM'
    count = "i=0; while true; do i=$((i+1)); echo $i; sleep 0.2; done"
    docker("run", "--detach", "--name", "web", "--publish", "18080:80", IMAGE, "sh", "-c", f"{serve}; {count}")
    return "web"


def typed_line(docker: Docker, *arguments: str) -> tuple[int, bytes]:
    """Run docker on a terminal of 31 rows and 77 columns with a typed line; return its exit code, and what it shows."""
    return typed(docker.command(*arguments), os.environ, b"typed\n", (31, 77))


#: docker says the size of the terminal after the command has begun.
_ON_TERMINAL = 'read x; echo got $x; until [ "$(stty size)" = "31 77" ]; do sleep 0.1; done; exit 4'


def test_a_container_gets_its_input_and_its_output_and_exit_code_come_back(docker: Docker) -> None:
    done = docker.run("run", "--rm", "-i", IMAGE, "sh", "-c", "cat; echo wrong >&2; exit 7", given="in", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "in", "wrong\n")
    assert docker.host.pods() == []


def test_a_container_has_a_terminal_of_the_callers_size(docker: Docker) -> None:
    code, shown = typed_line(docker, "run", "--rm", "-it", IMAGE, "sh", "-c", _ON_TERMINAL)
    assert (code, b"got typed" in shown) == (4, True), shown


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--network", "host"], "cannot have the host's network"),
        (["--pid", "host"], "cannot see the host's processes"),
        (["--ipc", "host"], "cannot have the host's IPC"),
        (["--device", "/dev/loop-control"], "device /dev/loop-control of the host cannot be in a virtual machine"),
    ],
)
def test_what_is_the_hosts_is_refused_in_one_sentence(docker: Docker, options: list[str], reason: str) -> None:
    done = docker.run("run", "--rm", *options, IMAGE, "true", check=False)
    assert done.returncode == 125
    assert reason in done.stderr


def test_a_program_that_does_not_exist_is_reported_as_by_runc(docker: Docker) -> None:
    assert docker.run("run", "--rm", IMAGE, "nope", check=False).returncode == 127


def test_a_container_that_the_guest_cannot_start_is_gone_with_its_vm(docker: Docker, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    options = ["--user", "bob", "--volume", f"{tmp_path}:/closed", "--workdir", "/closed"]
    done = docker.run("run", "--rm", *options, IMAGE, "true", check=False)
    assert "working directory '/closed': Permission denied" in done.stderr
    assert docker.host.pods() == []
    assert docker("ps", "--all", "--quiet") == ""


def test_options_of_a_container_have_their_effect(docker: Docker, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("from the host\n", encoding="utf-8")
    tmp_path.chmod(0o755)
    options = ["--init", "--user", "bob", "--read-only", "--tmpfs", "/x:size=1m", "--hostname", "name"]
    options += ["--volume", f"{tmp_path}:/v", "--env", "COLOUR=blue", "--workdir", "/v"]
    script = "cat file; id -u; hostname; echo $COLOUR; touch /y 2>/dev/null || echo read-only; ps; df /x"
    lines = docker("run", "--rm", *options, IMAGE, "sh", "-c", script).splitlines()
    assert lines[:5] == ["from the host", "1000", "name", "blue", "read-only"]
    assert lines[6].split()[2] == "/sbin/docker-init"
    assert lines[-1].split()[1] == "1024"


def test_commands_run_in_a_running_container(docker: Docker, web: str) -> None:
    done = docker.run("exec", "-i", web, "sh", "-c", "cat; echo wrong >&2; exit 3", given="in", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "in", "wrong\n")
    assert docker.run("exec", web, "/nope", check=False).returncode == 126  # as with runc


def test_a_command_has_a_terminal_of_the_callers_size(docker: Docker, web: str) -> None:
    code, shown = typed_line(docker, "exec", "-it", web, "sh", "-c", _ON_TERMINAL)
    assert (code, b"got typed" in shown) == (4, True), shown


def test_a_published_port_reaches_the_guest_which_has_the_address_that_docker_shows(docker: Docker, web: str) -> None:
    address = docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", web)
    assert f"inet {address}/24" in docker("exec", web, "ip", "addr", "show", "eth0")

    def fetched() -> bool:
        done = docker.host.run("busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:18080/page", check=False)
        return done.stdout == "served\n"

    wait_for(fetched, "the page does not arrive")


def test_a_container_that_joins_the_network_of_another_shares_its_vm(docker: Docker, web: str) -> None:
    pods = docker.host.pods()
    join = ["run", "--rm", "--network", f"container:{web}"]
    assert docker(*join, IMAGE, "wget", "-q", "-O", "-", "http://127.0.0.1/page") == "served"
    boot = "/proc/sys/kernel/random/boot_id"
    assert docker(*join, IMAGE, "cat", boot) == docker("exec", web, "cat", boot)
    assert docker.host.pods() == pods
    done = docker.run("run", "--rm", "--pid", f"container:{web}", IMAGE, "true", check=False)
    assert "the processes of another container are in another virtual machine" in done.stderr


def test_docker_shows_and_changes_a_running_container(docker: Docker, web: str) -> None:
    assert docker("top", web, "-o", "pid,args").split()[3].rstrip(":") == "vc-shim"
    used = docker("stats", "--no-stream", "--format", "{{.MemUsage}}", web)
    assert float(used.partition("MiB")[0]) > 32  # that of the whole VM
    docker("pause", web)
    assert docker("inspect", "--format", "{{.State.Status}}", web) == "paused"
    docker("unpause", web)
    docker("update", "--memory", "64m", "--memory-swap", "64m", web)
    (changed,) = docker.host.config(docker("inspect", "--format", "{{.Id}}", web)).containers
    assert changed.memory == 64


def test_a_file_is_copied_into_a_container_and_those_of_its_image_out(docker: Docker, web: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("copied\n", encoding="utf-8")
    docker("cp", tmp_path / "file", f"{web}:/tmp/file")
    assert docker("exec", web, "cat", "/tmp/file") == "copied"
    docker("cp", f"{web}:/etc/passwd", tmp_path / "out")
    assert (tmp_path / "out").read_text(encoding="utf-8").startswith("root:")


def test_a_container_stops_starts_and_restarts(docker: Docker, web: str) -> None:
    docker("stop", "--time", "60", web)
    assert docker("inspect", "--format", "{{.State.ExitCode}}", web) == "9"
    docker("start", web)
    docker("restart", "--time", "60", web)
    assert docker("exec", web, "echo", "again") == "again"
    docker("kill", web)
    assert docker("wait", web) == "137"
    assert docker("logs", "--tail", "1", web).isdecimal()
    docker("rm", web)
    assert docker.host.pods() == []


@pytest.mark.parametrize("killed", ["the shim of the runtime", "the shim of containerd", "QEMU", "the supervisor"])
def test_a_container_ends_or_goes_on_as_documented_when_a_process_is_killed(docker: Docker, killed: str) -> None:
    name = docker("run", "--detach", IMAGE, "sh", "-c", 'trap "exit 9" TERM; while true; do sleep 0.1; done')
    shim = int(docker("inspect", "--format", "{{.State.Pid}}", name))
    if killed == "QEMU":
        victim = _pid(f"qemu.* guest={name},")
    elif killed == "the supervisor":
        victim = _pid(f"vc_core.supervisor {name}")
    else:
        victim = shim if killed == "the shim of the runtime" else int(_status(shim, "PPid"))
    os.kill(victim, signal.SIGKILL)
    if killed == "the supervisor":
        assert docker("exec", name, "echo", "on") == "on"
        docker("stop", "--time", "60", name)
    code = {"the supervisor": "9", "QEMU": "255"}.get(killed, "137")
    assert docker("wait", name) == code
    wait_for(lambda: docker.host.pods() == [], "its VM has not ended")
    docker("rm", name)


def _pid(pattern: str) -> int:
    """Return the pid of the newest process whose command line matches."""
    done = subprocess.run(["pgrep", "--newest", "--full", pattern], capture_output=True, check=True)
    return int(done.stdout)


def _status(pid: int, field: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{field}:"))
