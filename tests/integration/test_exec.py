"""``virtc exec``: docker's habits, and the end of all that a command started."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import vc_core as vc
from vc_core.store.store import Store
from vc_core.testing.slowness import within
from waiting import PATIENCE, wait_until

from .conftest import pod_config, virtc, virtc_path, vm_processes
from .test_terminals import Terminal

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.hypervisors("qemu")]

POD = "execs"

#: A command that does not end by itself, and has more than one process in its session.
TREE = "sleep 7531 & sleep 7531; echo not reached"

#: The same without one in the background, for which a shell has SIGINT ignored (POSIX, "Asynchronous lists").
NESTED = "sh -c 'sleep 7531; true'; echo not reached"

#: Ends with 0 once no process of TREE is left.
GONE = "for i in $(seq 1000); do ps -o args | grep -q '^sleep [7]531' || exit 0; usleep 50000; done; exit 1"

#: Ends once the program has started.
UP = "until ps -o args | grep -q '^sleep [7]531'; do usleep 20000; done"


@pytest.fixture(scope="module", params=["hyperstart", "sshd"])
def bob(request: pytest.FixtureRequest, bundle: Path, root: Path) -> Iterator[vc.Pod]:
    """Return a pod whose one container runs as a user and in a directory of its own, with a variable."""
    command = vc.Cmd(["sleep", "100000"], user="bob", work_dir="/tmp", envs=[vc.EnvVar("A", "container's")])
    config = pod_config(
        id=POD, agent_type=request.param, containers=[vc.ContainerConfig(id="c1", root_fs=str(bundle), cmd=command)]
    )
    with vc.run_pod(config) as made:
        yield made


def test_a_command_has_the_containers_user_directory_and_variables_unless_it_has_others(bob: vc.Pod) -> None:
    script = 'echo "$(id -un):$(id -gn) $PWD $A $B"'
    assert virtc("exec", POD, "sh", "-c", script).stdout == b"bob:bob /tmp container's \n"
    options = ("-u", "root:bob", "-w", "/bin", "-e", "A=mine", "--env", "B=b")
    done = virtc("exec", *options, f"{POD}/c1", "--", "sh", "-c", script)
    assert (done.stdout, done.stderr) == (b"root:bob /bin mine b\n", b"")
    assert bob.enter_container("c1", vc.Cmd(["id", "-un"])).stdout == b"bob\n"


def test_only_i_passes_input(bob: vc.Pod) -> None:
    loop = f"while read line; do echo $line; {virtc_path()} exec {POD} cat; done"
    done = subprocess.run(["sh", "-c", loop], input=b"one\ntwo\n", capture_output=True, timeout=60)
    assert (done.stdout, done.stderr) == (b"one\ntwo\n", b"")
    assert virtc("exec", "-i", POD, "tr", "a-z", "A-Z", stdin=b"in\n").stdout == b"IN\n"
    assert virtc("container", "enter", POD, "--", "cat", stdin=b"in\n").stdout == b""


def test_options_after_the_command_are_the_commands(bob: vc.Pod) -> None:
    assert virtc("exec", POD, "echo", "-e", "a", "--", "-i", "--help").stdout == b"a -- -i --help\n"


@pytest.mark.parametrize(("command", "code"), [("no-such-command", 127), ("/tmp", 126)])
def test_the_exit_codes_are_those_of_docker(bob: vc.Pod, command: str, code: int) -> None:
    done = virtc("exec", POD, command)
    assert (done.returncode, done.stderr.count(b"\n")) == (code, 1)


def test_a_timeout_ends_all_of_the_session_and_is_exit_code_124(bob: vc.Pod) -> None:
    done = virtc("exec", "--timeout", "2", POD, "sh", "-c", TREE)
    assert (done.returncode, done.stdout) == (124, b"")
    assert done.stderr == b"virtc: command 'sh' in container 'c1' did not end in 2 s and was killed\n"
    assert bob.enter_container("c1", vc.Cmd(["sh", "-c", GONE])).exit_code == 0


def test_so_does_a_timeout_of_the_api(bob: vc.Pod) -> None:
    with pytest.raises(vc.CommandTimeoutError):
        bob.enter_container("c1", vc.Cmd(["sh", "-c", TREE]), timeout=2)
    assert bob.enter_container("c1", vc.Cmd(["sh", "-c", GONE])).exit_code == 0


def test_a_guest_that_hangs_takes_no_more_of_the_callers_time_and_kills_the_command_later(
    bob: vc.Pod, store: Store
) -> None:
    vm = vm_processes(store, POD)
    for pid in vm:
        os.kill(pid, signal.SIGSTOP)
    try:
        with within(6):
            done = virtc("exec", "--timeout", "0.5", POD, "sh", "-c", TREE)
    finally:
        for pid in vm:
            os.kill(pid, signal.SIGCONT)
    assert (done.returncode, done.stdout) == (124, b"")
    assert b"in 0.5 s, and the guest does not report" in done.stderr
    assert bob.enter_container("c1", vc.Cmd(["sh", "-c", GONE])).exit_code == 0


@pytest.mark.parametrize(
    ("signum", "code", "script"),
    [(signal.SIGINT, 130, NESTED), (signal.SIGTERM, 143, NESTED), (signal.SIGKILL, -signal.SIGKILL, TREE)],
)
def test_a_signal_to_virtc_ends_all_of_the_session(bob: vc.Pod, signum: signal.Signals, code: int, script: str) -> None:
    with subprocess.Popen([virtc_path(), "exec", POD, "sh", "-c", script], stderr=subprocess.PIPE) as client:
        bob.enter_container("c1", vc.Cmd(["sh", "-c", UP]))
        client.send_signal(signum)
        assert client.wait(PATIENCE) == code
        assert client.stderr is not None
        assert client.stderr.read() == b""
    assert bob.enter_container("c1", vc.Cmd(["sh", "-c", GONE])).exit_code == 0


def test_a_detached_command_runs_on_without_virtc(bob: vc.Pod) -> None:
    script = "echo lost; echo $A $$ >/tmp/detached; exec sleep 7531"
    done = virtc("exec", "-d", "-u", "root", "-e", "A=mine", POD, "sh", "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    end = vc.Cmd(["sh", "-c", f"{UP}; read what pid </tmp/detached; kill $pid; echo $what; {GONE}"], user="root")
    assert bob.enter_container("c1", end).stdout == b"mine\n"


def test_a_command_that_does_not_start_is_not_detached(bob: vc.Pod) -> None:
    done = virtc("exec", "--detach", POD, "no-such-command")
    # An SSH server reports the start of a command before the command is executed.
    expected = (0, b"", 0) if bob.status().agent == "sshd" else (127, b"", 1)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == expected


@pytest.mark.parametrize("option", ["-i", "-t", "--timeout=3"])
def test_what_a_detached_command_cannot_have_is_a_usage_error(option: str) -> None:
    done = virtc("exec", "-d", option, "nobody", "true")
    assert done.returncode == 125
    assert b"-d leaves the command to itself; omit -i, -t and --timeout" in done.stderr


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    made: list[Terminal] = []

    def make(*arguments: str) -> Terminal:
        made.append(Terminal(*arguments))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize(("options", "keys"), [((), "\x10\x11"), (("--detach-keys", "ctrl-a,d"), "\x01d")])
def test_the_detach_keys_end_virtc_and_not_the_command(
    bob: vc.Pod, terminal: Callable[..., Terminal], options: tuple[str, ...], keys: str
) -> None:
    shown = terminal("exec", "-it", *options, POD, "sh", "-c", "echo up; cat; exec sleep 7531")
    shown.expect("up\r\n")
    for key in keys:
        shown.type(key)
    assert shown.client.wait(PATIENCE) == 0
    shown.expect("virtc: detached; what ran goes on\r\n")
    look = "ps -o args | grep '^sh -c [e]cho up; cat'"
    assert bob.enter_container("c1", vc.Cmd(["sh", "-c", look])).exit_code == 0, "cat waits: its input has not ended"
    bob.enter_container("c1", vc.Cmd(["sh", "-c", "pkill -f 'cat; exec'; pkill -x cat; true"], user="root"))


def test_a_container_in_the_foreground_runs_on_when_its_caller_detaches(
    bundle: Path, terminal: Callable[..., Terminal], root: Path
) -> None:
    words = ("pod", "run", "-t", "--rm", "--id", "left", "--bundle", str(bundle), "--", "sh", "-c", "echo up; cat")
    shown = terminal(*words)
    shown.expect("up\r\n", timeout=2 * PATIENCE)
    shown.type("\x10\x11")
    assert shown.client.wait(PATIENCE) == 0
    assert vc.status_container("left", "1").state == "running"
    vc.kill_container("left", "1")
    left = [root / "state/pods/left", root / "run/pods/left", root / "state/locks/left.lock"]
    # What stands by for --rm removes them, the last one last.
    wait_until(lambda: not any(path.exists() for path in left))


def test_what_a_variable_of_the_caller_is_called_is_enough(bob: vc.Pod, tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("A=file\nMINE\n", encoding="utf-8")
    words = [virtc_path(), "exec", "--env-file", str(file), "-e", "YOURS", POD, "sh", "-c", "echo $A $MINE $YOURS"]
    done = subprocess.run(words, env={**os.environ, "MINE": "1", "YOURS": "2"}, capture_output=True, timeout=60)
    assert done.stdout == b"file 1 2\n"
