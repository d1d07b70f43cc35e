"""The script that starts and ends containers in a guest, without a guest: whom it signals."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import pytest

from needs import require

#: A process with a name that has the characters which end a name in /proc/PID/stat.
_NAME = "a) S 1\n2"

SHELLS = {"dash": ("dash",), "busybox": ("busybox", "sh"), "bash": ("bash", "--posix")}


@pytest.fixture(params=SHELLS)
def script(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """Return the command that runs the script in a shell; what it has of a container lies beside it."""
    command = SHELLS[request.param]
    require(command[0])
    with resources.as_file(resources.files("vc_agent_sshd") / "guest/containers.sh") as source:
        shutil.copy(source, tmp_path)
    return [*command, str(tmp_path / "containers.sh")]


@contextmanager
def process(top: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process until the end of the block."""
    program = top / _NAME
    shutil.copy("/bin/sleep", program)
    with subprocess.Popen([program, "1000"]) as one:
        yield one
        one.kill()


def _began(pid: int) -> int:
    """Return when a process began (proc(5), field 22 of stat)."""
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()[19])


def _record(top: Path, pid: int, began: int, name: str) -> None:
    """Write what the script writes of a container that runs, with a process in the file ``name``."""
    container = top / "c/x"
    container.mkdir(parents=True)
    (container / "ok").write_text(f"ok {pid} {pid}\n", encoding="ascii")
    (container / "first").touch()
    (container / name).write_text(f"{pid} {began}\n", encoding="ascii")


@pytest.mark.promise("T08")
@pytest.mark.parametrize("name", ["first", "keeper", "holder", "carriers"])
def test_a_process_that_got_the_pid_of_a_containers_one_is_not_signalled(
    script: list[str], tmp_path: Path, name: str
) -> None:
    with process(tmp_path) as stranger:
        _record(tmp_path, stranger.pid, _began(stranger.pid) - 1, name)
        subprocess.run([*script, "signal_container", "x", "9"], check=True)
        subprocess.run([*script, "remove", "x"], check=True)
        assert not (tmp_path / "c/x").exists()
        assert stranger.poll() is None


@pytest.mark.parametrize("name", ["first", "keeper", "holder", "carriers"])
def test_a_containers_process_ends_when_it_is_removed(script: list[str], tmp_path: Path, name: str) -> None:
    with process(tmp_path) as own:
        _record(tmp_path, own.pid, _began(own.pid), name)
        subprocess.run([*script, "remove", "x"], check=True)
        assert own.wait() < 0
