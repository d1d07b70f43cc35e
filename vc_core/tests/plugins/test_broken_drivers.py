"""A driver that breaks, in whatever way, harms no other; its own pods can still be listed, inspected and deleted."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import distributions
import vc_core as vc
from vc_core.driver.process import ProcessIdentity
from vc_core.errors import DriverContractError, PodExistsError, SupervisorError, SupervisorLostError
from vc_core.host.processes import find_supervisors
from vc_core.plugins import registry, running_call
from vc_core.plugins.check_runner import TIMEOUT, check_installed
from vc_core.store.status import vm_identity
from vc_core.store.store import Store
from vc_core.supervisor.wire import LOG_NAME
from vc_core.testing.slowness import within
from waiting import PATIENCE, wait_until

pytestmark = pytest.mark.slow

#: Seconds that the examination of a driver that hangs may take here.
HANG = 4.0

#: A hypervisor that works as mock does, until a variable of the environment names how it breaks.
TURNCOAT = """
    import ctypes, os, threading, time
    from vc_core.driver import hookimpl
    from vc_hypervisor_mock import MockPlugin
    from vc_hypervisor_mock.hypervisor import MockHypervisor

    HOW = os.environ.get("TURNCOAT", "")

    def turn(when):
        if HOW == f"{when} fails":
            raise RuntimeError("bad day")
        if HOW == f"{when} hangs":
            threading.Event().wait()
        if HOW == f"{when} holds Python":
            ctypes.PyDLL(None).sleep(1000)
        if HOW == f"{when} exits":
            raise SystemExit(3)
        if HOW == f"{when} crashes":
            os._exit(3)

    class TurncoatHypervisor(MockHypervisor):
        async def stop(self, timeout):
            turn("stop")
            await super().stop(timeout)

    class Plugin(MockPlugin):
        @hookimpl
        def vc_driver_options(self):
            turn("options")
            return super().vc_driver_options()

        @hookimpl
        def vc_hypervisor_create(self, pod, config, saved):
            turn("create")
            return "nonsense" if HOW == "create is nonsense" else TurncoatHypervisor(pod, config, saved)

        @hookimpl
        def vc_driver_probe(self):
            turn("probe")
            return {1: 2} if HOW == "probe is nonsense" else []

    turn("import")
"""

#: An extension that is in the way of everything; a test sets its event, so that no thread outlives the test.
SNAG = """
    import os, threading
    from vc_core.driver import hookimpl

    HOW = os.environ.get("SNAG", "")
    END = threading.Event()
    if HOW == "import hangs":
        END.wait()

    class Plugin:
        @hookimpl
        def vc_pod_transition(self, pod_id, old, new):
            if HOW == "notification hangs":
                END.wait()
            if HOW == "notification exits":
                raise SystemExit(3)
"""

#: How it goes bad -> what the check reports; "" where nothing can be seen without stopping a VM.
WAYS = {
    "import fails": "RuntimeError: bad day",
    "import hangs": f"hangs ({HANG:g} s) in this step: loading it",
    "import exits": "SystemExit: 3",
    "import crashes": "ends the process in this step: loading it",
    "probe hangs": f"hangs ({HANG:g} s) in this step: vc_driver_probe",
    "probe is nonsense": "returned {1: 2} from vc_driver_probe, which must return a list of strings",
    "options fails": "raised RuntimeError: bad day from vc_driver_options",
    "create is nonsense": "returned 'nonsense' from vc_hypervisor_create",
    "stop hangs": "",
    "stop crashes": "",
}

#: A hypervisor whose VM is a process, from the page that shows how to write one; NAP names how it breaks.
PAGE = Path(__file__).parents[3] / "docs/how-to/write-a-hypervisor.md"
NAP = """
{hypervisor}

import asyncio, ctypes, os, threading
from vc_core.driver import hookimpl

HOW = os.environ.get("VC_NAP", "")

def turn(when):
    if HOW == f"{{when}} hangs":
        threading.Event().wait()
    if HOW == f"{{when}} exits":
        os._exit(3)
    if HOW == f"{{when}} crashes":
        ctypes.string_at(0)

class Nap(NapHypervisor):
    async def start(self, timeout):
        turn("start")
        if HOW == "start waits":
            await asyncio.Event().wait()
        if HOW == "start holds Python":
            ctypes.PyDLL(None).sleep(1000)
        if HOW == "start stops the loop":
            asyncio.get_running_loop().stop()
            await asyncio.Event().wait()
        if HOW == "start exits in a task":
            self.task = asyncio.create_task(self.leave())
            await asyncio.Event().wait()
        await super().start(timeout)

    async def leave(self):
        raise SystemExit(3)

class Plugin:
    @hookimpl
    def vc_hypervisor_create(self, pod, config, saved):
        turn("create")
        return Nap(pod, config, saved)

if HOW == "import holds Python":
    ctypes.PyDLL(None).sleep(1000)
turn("import")
"""

#: An extension that prints wherever it can, changes the environment, and does not load if a variable says so.
LOUD = """
    import os, subprocess, sys
    from vc_core.driver import hookimpl

    HOW = os.environ.get("LOUD", "")

    def shout(where):
        if HOW:
            print(f"print in {where}")
            os.write(1, f"write in {where}\\n".encode())
            subprocess.run(["echo", f"child in {where}"])
            sys.__stdout__.write(f"stream in {where}\\n")

    class Plugin:
        @hookimpl
        def vc_pod_transition(self, pod_id, old, new):
            shout("a notification")

        @hookimpl(wrapper=True)
        def vc_hypervisor_create(self):
            shout("a wrapper")
            if HOW == "wraps badly":
                raise RuntimeError("bad day")
            return (yield)

    shout("the module")
    if HOW == "moves":
        os.environ["VIRTCONTAINERS_ROOT"] = "/nowhere"
        os.chdir("/")
    if HOW == "fails":
        raise RuntimeError("bad day")
"""

Turn = Callable[[str, str], None]
Virtc = Callable[..., str]
RunVirtc = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with all of them installed, and in it a second one, with a rival for the same name."""
    site = tmp_path_factory.mktemp("site")
    distributions.install(site, "turncoat", "hypervisors", "turncoat", TURNCOAT)
    distributions.install(site, "snag", "extensions", "snag", SNAG)
    hypervisor = next(
        block for block in PAGE.read_text(encoding="utf-8").split("```") if "class NapHypervisor" in block
    )
    source = hypervisor.removeprefix("python").replace("from vc_hypervisor_nap.config import NapConfig", "")
    distributions.install(site, "nap", "hypervisors", "nap", NAP.format(hypervisor=source.strip()))
    distributions.install(site, "loud", "extensions", "loud", LOUD)
    distributions.install(site / "rival", "rival", "hypervisors", "turncoat", TURNCOAT)
    return site


def forget_strangers() -> None:
    """Let the next import of a plug-in of this test run its module again."""
    for name in [name for name in sys.modules if name.startswith("stranger_")]:
        del sys.modules[name]


@pytest.fixture
def turn(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Turn]:
    """Install all of them for this process and its children; return a function that makes one of them go bad."""
    monkeypatch.setattr(registry, "EXTENSION_TIMEOUT", 0.3)
    monkeypatch.setattr(registry, "_unusable", set())
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", str(site))
    forget_strangers()

    def turn(variable: str, way: str) -> None:
        monkeypatch.setenv(variable, way)
        forget_strangers()

    yield turn
    wait_until(lambda: "stranger_snag" not in sys.modules or hasattr(sys.modules["stranger_snag"], "END"))
    if snag := sys.modules.get("stranger_snag"):
        snag.END.set()
    forget_strangers()


@pytest.fixture
def run_virtc(site: Path, tmp_path: Path) -> RunVirtc:
    """Return a function that runs the command with all of them installed."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [Path(sys.executable).with_name("virtc"), *arguments],
            env={**os.environ, "PYTHONPATH": str(site), "VIRTCONTAINERS_ROOT": str(tmp_path / "root"), **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=300,
        )

    return run


@pytest.fixture
def virtc(run_virtc: RunVirtc) -> Virtc:
    """Return a function that runs the command with all of them installed and returns what it prints."""

    def run(*arguments: str, status: int = 0, **environment: str) -> str:
        done = run_virtc(*arguments, **environment)
        assert done.returncode == status, done.stderr
        return done.stdout

    return run


def create(name: str, hypervisor: str) -> vc.Pod:
    return vc.create_pod(vc.PodConfig(id=name, hypervisor_type=hypervisor, agent_type="noop"))


def states() -> dict[str, str]:
    return {pod.id: str(pod.state) for pod in vc.list_pods()}


def states_in(listed: str) -> dict[str, str]:
    return {pod["id"]: pod["state"] for pod in json.loads(listed)}


def violations(*names: str, timeout: float = TIMEOUT) -> dict[str, str]:
    """Return what is wrong with installed drivers, by their names; "" where nothing is."""
    found = check_installed(names, contract=True, timeout=timeout)
    return {one.name: "; ".join(one.violations) for one in found}


def test_the_driver_is_good_before_it_turns(turn: Turn) -> None:
    pod = create("p1", "turncoat")
    pod.start()
    pod.stop()
    pod.delete()
    assert violations("turncoat") == {"turncoat": ""}


@pytest.mark.promise("T25")
@pytest.mark.parametrize(
    ("way", "fault"),
    [
        pytest.param(*way, id=way[0], marks=[] if way[0] == "import fails" else [pytest.mark.slow])
        for way in WAYS.items()
    ],
)
def test_a_driver_gone_bad_harms_no_other_and_its_pods_can_be_deleted(turn: Turn, way: str, fault: str) -> None:
    create("ready", "turncoat")
    create("running", "turncoat").start()
    turn("TURNCOAT", way)
    assert states() == {"ready": "ready", "running": "running"}
    assert vc.status_pod("running").state == "running"

    other = create("other", "mock")
    other.start()
    other.delete(force=True)

    if "hangs" in way:
        found = violations("turncoat", timeout=HANG)
    else:
        found = violations("turncoat", "mock")
        assert found.pop("mock") == ""
    assert fault in found["turncoat"]
    assert bool(found["turncoat"]) == bool(fault)

    for name in ("running", "ready"):
        vc.delete_pod(name, force=True)
    assert states() == {}


@pytest.mark.slow
def test_a_driver_that_ends_its_process_ends_no_command(virtc: Virtc) -> None:
    for name in ("ready", "running"):
        virtc("pod", "create", "--id", name, "--hypervisor", "turncoat", "--agent", "noop")
    virtc("pod", "start", "running")
    bad = {"TURNCOAT": "import crashes"}
    assert states_in(virtc("pod", "list", "--json", **bad)) == {"ready": "ready", "running": "running"}
    assert json.loads(virtc("pod", "status", "--json", "running", **bad))["state"] == "running"
    examined = json.loads(virtc("drivers", "--check", "--json", status=1, **bad))
    found = {one["name"]: "; ".join(one["violations"]) for one in examined}
    assert WAYS["import crashes"] in found.pop("turncoat")
    assert set(found.values()) == {""}
    for name in ("running", "ready"):
        virtc("pod", "delete", "--force", name, **bad)
    assert states_in(virtc("pod", "list", "--json")) == {}


def checkers(site: Path) -> list[bytes]:
    """Return the arguments of the processes that check the plug-in "turncoat" of this directory."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words, variables = entry.read_bytes(), entry.with_name("environ").read_bytes()
            checks = b"vc_core.plugins.check_runner" in words and b"\0turncoat\0" in words
            if checks and os.fsencode(site) in variables:
                found.append(words)
    return found


@pytest.mark.parametrize(
    ("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
@pytest.mark.parametrize("way", ["import hangs", "import holds Python"])
def test_a_signal_ends_virtc_drivers_and_all_processes_that_check(
    turn: Turn, site: Path, way: str, signum: signal.Signals, status: int
) -> None:
    turn("TURNCOAT", way)
    virtc = Path(sys.executable).with_name("virtc")
    with subprocess.Popen([virtc, "drivers", "turncoat", "mock"], stdout=subprocess.DEVNULL) as command:
        wait_until(lambda: checkers(site))
        with within(3):
            command.send_signal(signum)
            assert command.wait(PATIENCE) == status
            wait_until(lambda: not checkers(site))


@pytest.fixture
def nap(tmp_path: Path) -> vc.PodConfig:
    """Return the configuration of a pod whose VM is a process that sleeps."""
    for name in ("kernel", "image"):
        (tmp_path / name).touch()
    (tmp_path / "bundle/rootfs/bin").mkdir(parents=True)
    hypervisor = vc.HypervisorConfig(kernel_path=str(tmp_path / "kernel"), image_path=str(tmp_path / "image"))
    container = vc.ContainerConfig(id="c1", root_fs=str(tmp_path / "bundle"), cmd=vc.Cmd(args=["sleep", "1000"]))
    return vc.PodConfig(
        id="p1", hypervisor_type="nap", hypervisor_config=hypervisor, agent_type="noop", containers=[container]
    )


def supervisors(store: Store) -> list[ProcessIdentity]:
    return find_supervisors("p1", store.roots.pod_run_dir("p1") / LOG_NAME, store.roots.pod_lock("p1"))


def record_of_call(store: Store) -> str:
    """Return the call that the supervisor of the pod is executing."""
    try:
        return (store.roots.pod_run_dir("p1") / running_call.FILE_NAME).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""


@contextmanager
def in_background(*operation: str) -> Iterator[subprocess.Popen[str]]:
    """Run an operation of the API on the pod in another process, which is killed at the end if it still runs."""
    code = "import sys, vc_core; getattr(vc_core, sys.argv[1])(*sys.argv[2:])"
    with subprocess.Popen(
        [sys.executable, "-c", code, *operation], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8"
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def delete_within(seconds: float) -> None:
    with within(seconds):
        vc.delete_pod("p1", force=True)
    assert states() == {}


@pytest.mark.root
@pytest.mark.parametrize("way", ["import hangs", "import exits", "create hangs"])
def test_a_driver_gone_bad_cannot_keep_its_vm_after_its_supervisor_died(
    turn: Turn, store: Store, nap: vc.PodConfig, way: str
) -> None:
    vc.run_pod(nap)
    (supervisor,) = supervisors(store)
    vm = vm_identity(store.read("p1"))
    assert vm is not None
    assert supervisor.kill(PATIENCE)
    turn("VC_NAP", way)
    assert states() == {"p1": "running"}
    assert vm.alive()
    delete_within(5)
    assert not vm.alive()


@pytest.mark.root
@pytest.mark.parametrize("way", ["import hangs", "create hangs"])
def test_a_supervisor_that_hangs_before_it_is_ready_cannot_keep_its_pod(
    turn: Turn, store: Store, nap: vc.PodConfig, way: str
) -> None:
    vc.run_pod(nap)
    (supervisor,) = supervisors(store)
    assert supervisor.kill(PATIENCE)
    turn("VC_NAP", way)
    with in_background("stop_pod", "p1") as client:
        wait_until(lambda: "hypervisor driver 'nap'" in record_of_call(store))
        assert len(supervisors(store)) == 1
        delete_within(5)
        _, error = client.communicate(timeout=PATIENCE)
        # The latter if the client starts another one meanwhile, in the namespace of a VM that has just ended.
        assert "PodNotFoundError: no pod has the id 'p1'" in error or "cannot be started: nsenter" in error


@pytest.mark.root
def test_a_client_that_gives_up_ends_the_supervisor_that_it_started_and_says_what_hung(
    turn: Turn, store: Store, nap: vc.PodConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    vc.run_pod(nap)
    (supervisor,) = supervisors(store)
    assert supervisor.kill(PATIENCE)
    turn("VC_NAP", "import hangs")
    hung = "did not get ready in time while hypervisor driver 'nap' of stranger-nap 7.8 was loaded; it was killed"
    with monkeypatch.context() as patch:
        patch.setattr("vc_core.client.connect.SUPERVISOR_TIMEOUT", 3.0)
        with pytest.raises(SupervisorError, match=hung):
            vc.stop_pod("p1")
    assert supervisors(store) == []
    turn("VC_NAP", "")
    vc.stop_pod("p1")
    vc.delete_pod("p1")


@pytest.mark.root
@pytest.mark.parametrize(("when", "call"), [("import", "was loaded"), ("start", "executed start")])
def test_a_supervisor_in_which_a_driver_holds_the_interpreter_is_named_and_killed_by_its_starter(
    turn: Turn, store: Store, nap: vc.PodConfig, monkeypatch: pytest.MonkeyPatch, when: str, call: str
) -> None:
    monkeypatch.setattr("vc_core.client.link.PULSE_INTERVAL", 0.7)  # 4.9 s in all, and the watchdog writes every 3 s
    pod = vc.create_pod(nap)
    turn("VC_NAP", f"{when} holds Python")
    with within(15), pytest.raises(SupervisorError) as caught:
        pod.start()
    assert str(caught.value) == (
        f"the pod's supervisor does not answer while hypervisor driver 'nap' of stranger-nap 7.8 {call} and was "
        "killed; 'virtc pod delete --force' ends the pod"
    )
    wait_until(lambda: supervisors(store) == [])
    delete_within(5)


@pytest.mark.root
def test_a_start_that_is_slow_is_waited_for_while_its_supervisor_works(
    turn: Turn, nap: vc.PodConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vc_core.client.link.PULSE_INTERVAL", 0.7)
    pod = vc.create_pod(nap)
    turn("VC_NAP", "start waits")
    with pytest.raises(DriverContractError, match="did not return from start within 15 s; it was cancelled"):
        pod.start()
    delete_within(5)


@pytest.mark.root
@pytest.mark.parametrize(
    ("way", "why"),
    [
        (
            "start stops the loop",
            "its event loop was stopped; just before, hypervisor driver 'nap' of stranger-nap 7.8 executed start",
        ),
        (
            "start exits in a task",
            "hypervisor driver 'nap' of stranger-nap 7.8 raised SystemExit: 3 from a task or callback of its own, "
            "in Nap.leave (",
        ),
    ],
)
def test_a_driver_that_stops_the_event_loop_of_the_supervisor_is_named(
    turn: Turn, store: Store, nap: vc.PodConfig, way: str, why: str
) -> None:
    pod = vc.create_pod(nap)
    turn("VC_NAP", way)
    with within(10), pytest.raises(SupervisorLostError) as caught:
        pod.start()
    assert str(caught.value).startswith(f"the pod's supervisor ended, because {why}")
    wait_until(lambda: supervisors(store) == [])
    delete_within(5)


@pytest.mark.root
def test_a_driver_that_crashes_before_there_is_a_vm_leaves_none_that_may_run_on(turn: Turn, nap: vc.PodConfig) -> None:
    pod = vc.create_pod(nap)
    turn("VC_NAP", "create exits")
    with pytest.raises(SupervisorLostError) as caught:
        pod.start()
    assert str(caught.value) == (
        "the pod's supervisor ended while hypervisor driver 'nap' of stranger-nap 7.8 executed vc_hypervisor_create"
    )
    delete_within(5)


@pytest.mark.root
def test_a_client_that_is_interrupted_ends_the_supervisor_that_it_started(
    turn: Turn, store: Store, nap: vc.PodConfig
) -> None:
    vc.run_pod(nap)
    (supervisor,) = supervisors(store)
    assert supervisor.kill(PATIENCE)
    turn("VC_NAP", "import hangs")
    with in_background("stop_pod", "p1") as client:
        wait_until(lambda: "hypervisor driver 'nap'" in record_of_call(store))
        client.send_signal(signal.SIGINT)
        client.wait(PATIENCE)
        wait_until(lambda: not supervisors(store))
    delete_within(5)


@pytest.mark.root
def test_a_supervisor_that_is_stopped_by_a_signal_is_ended_by_a_forced_delete(
    turn: Turn, store: Store, nap: vc.PodConfig
) -> None:
    vc.run_pod(nap)
    (supervisor,) = supervisors(store)
    os.kill(supervisor.pid, signal.SIGSTOP)
    delete_within(5)
    assert not supervisor.alive()


@pytest.mark.root
@pytest.mark.parametrize("way", ["start waits", "start hangs"])
def test_a_start_that_hangs_is_ended_by_the_forced_delete_of_another_client(
    turn: Turn, store: Store, nap: vc.PodConfig, way: str
) -> None:
    vc.create_pod(nap)
    turn("VC_NAP", way)
    with in_background("start_pod", "p1") as starter:
        wait_until(lambda: store.read("p1").vm)
        delete_within(5)
        _, error = starter.communicate(timeout=PATIENCE)
        said = r"StateError: the start of pod 'p1' was aborted: the pod was (stopped|deleted) meanwhile\n$"
        if way == "start hangs":  # its supervisor is killed, which the starter may see before the pod is removed
            said += r"|SupervisorLostError: .* executed start; the pod may run on\n$"
        assert re.search(said, error)


@pytest.mark.root
def test_a_start_that_hangs_is_undone_by_the_stop_of_another_client(
    turn: Turn, store: Store, nap: vc.PodConfig
) -> None:
    vc.create_pod(nap)
    turn("VC_NAP", "start waits")
    with in_background("start_pod", "p1") as starter:
        wait_until(lambda: store.read("p1").vm)
        vm = vm_identity(store.read("p1"))
        assert vm is not None
        with within(5):
            vc.stop_pod("p1")
        assert states() == {"p1": "ready"}
        assert not vm.alive()
        _, error = starter.communicate(timeout=PATIENCE)
        assert "StateError: the start of pod 'p1' was aborted: the pod was stopped meanwhile" in error
    vc.delete_pod("p1")


@pytest.mark.root
@pytest.mark.parametrize("way", ["exits", "crashes"])
def test_a_supervisor_that_ends_in_a_driver_s_method_names_driver_and_method(
    turn: Turn, store: Store, nap: vc.PodConfig, way: str
) -> None:
    vc.create_pod(nap)
    turn("VC_NAP", f"start {way}")
    with pytest.raises(SupervisorLostError, match=r"hypervisor driver 'nap' of stranger-nap 7.8 executed start"):
        vc.start_pod("p1")
    assert states() == {"p1": "ready"}
    vc.delete_pod("p1", force=True)


@pytest.mark.root
def test_a_supervisor_that_ends_while_a_driver_is_loaded_names_the_driver(
    turn: Turn, store: Store, nap: vc.PodConfig
) -> None:
    vc.create_pod(nap)
    vc.start_pod("p1")
    (supervisor,) = supervisors(store)
    assert supervisor.kill(PATIENCE)
    turn("VC_NAP", "import exits")
    with pytest.raises(
        SupervisorError, match=r"the last time while hypervisor driver 'nap' of stranger-nap 7.8 was lo"
    ):
        vc.stop_pod("p1")
    delete_within(5)


@pytest.mark.root
def test_a_pod_cannot_be_created_with_the_id_of_one_that_runs_and_that_is_said_at_once(
    nap: vc.PodConfig, turn: Turn
) -> None:
    vc.run_pod(nap)
    turn("VC_NAP", "import hangs")
    with within(1), pytest.raises(PodExistsError, match="a pod with the id 'p1' exists"):
        vc.create_pod(nap)
    vc.delete_pod("p1", force=True)


def test_a_driver_that_was_uninstalled_harms_no_other(turn: Turn, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create("p1", "turncoat").start()
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(site)])
    monkeypatch.delenv("PYTHONPATH")
    assert states() == {"p1": "running"}
    assert violations("mock") == {"mock": ""}
    vc.delete_pod("p1", force=True)
    assert states() == {}


def test_a_driver_that_is_offered_twice_harms_no_other(turn: Turn, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create("p1", "turncoat").start()
    monkeypatch.syspath_prepend(site / "rival")
    monkeypatch.setenv("PYTHONPATH", f"{site}:{site}/rival")
    assert states() == {"p1": "running"}
    found = violations("turncoat", "mock")
    assert "stranger-rival 7.8 and stranger-turncoat 7.8" in found["turncoat"]
    assert found["mock"] == ""
    vc.delete_pod("p1", force=True)
    assert states() == {}


@pytest.mark.promise("T25")
@pytest.mark.parametrize("way", ["import hangs", "notification hangs", "notification exits"])
def test_an_extension_that_hangs_or_exits_stops_nothing(turn: Turn, way: str) -> None:
    pod = create("p1", "mock")
    turn("SNAG", way)
    pod.start()
    assert states() == {"p1": "running"}
    pod.delete(force=True)
    assert states() == {}


@pytest.mark.slow
def test_an_extension_that_hangs_holds_up_no_command(virtc: Virtc) -> None:
    bad = {"SNAG": "import hangs"}
    virtc("pod", "create", "--id", "p1", "--hypervisor", "mock", "--agent", "noop", **bad)
    virtc("pod", "start", "p1", **bad)
    virtc("pod", "delete", "--force", "p1", **bad)
    assert states_in(virtc("pod", "list", "--json", **bad)) == {}


#: Creates and starts a pod that needs no virtual machine.
RUN = ("pod", "run", "-q", "--id", "p1", "--hypervisor", "mock", "--agent", "noop")


def test_what_a_plugin_changes_in_the_environment_moves_no_root(virtc: Virtc) -> None:
    virtc(*RUN, LOUD="moves")
    assert states_in(virtc("pod", "list", "--json", LOUD="moves")) == {"p1": "running"}
    virtc("pod", "delete", "--force", "p1", LOUD="moves")
    assert states_in(virtc("pod", "list", "--json")) == {}


def test_a_driver_is_held_to_its_contract_without_the_wrappers_of_extensions(run_virtc: RunVirtc) -> None:
    done = run_virtc(*RUN, LOUD="wraps badly")
    assert done.returncode == 1
    error = (
        "extension 'loud' of stranger-loud 7.8 raised RuntimeError: bad day from its wrapper of vc_hypervisor_create"
    )
    assert error in done.stderr
    checked = run_virtc("drivers", "--check", "--json", "mock", "loud", LOUD="wraps badly")
    assert [one["violations"] for one in json.loads(checked.stdout)] == [[], []]


def test_what_a_plugin_prints_is_on_standard_error(run_virtc: RunVirtc) -> None:
    done = run_virtc(*RUN, LOUD="prints")
    assert (done.returncode, done.stdout) == (0, "p1\n"), done.stderr
    for where in ("the module", "a wrapper", "a notification"):
        for how in ("print", "write", "child", "stream"):
            assert f"{how} in {where}" in done.stderr


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"LOUD": "fails"}, "extension skipped: extension 'loud' of stranger-loud 7.8 failed to load"),
        ({"SNAG": "import hangs"}, "extension skipped: extension 'snag' of stranger-snag 7.8 did not load within 3 s"),
        ({"SNAG": "notification hangs"}, "extension 'snag' of stranger-snag 7.8: hook vc_pod_transition did not retu"),
    ],
    ids=str,
)
def test_a_broken_extension_is_said_once_in_a_command(run_virtc: RunVirtc, broken: dict[str, str], said: str) -> None:
    done = run_virtc(*RUN, **broken)
    assert (done.returncode, done.stdout) == (0, "p1\n")
    assert done.stderr.count(said) == 1
