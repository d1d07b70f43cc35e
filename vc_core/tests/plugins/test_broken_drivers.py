"""A driver that breaks, in whatever way, harms no other; its own pods can still be listed, inspected and deleted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import distributions
import vc_core as vc
from vc_core.host.processes import find_supervisors
from vc_core.plugins import registry
from vc_core.plugins.check_runner import TIMEOUT, check_installed
from vc_core.store.status import vm_identity
from vc_core.store.store import Store
from vc_core.supervisor.wire import LOG_NAME

pytestmark = pytest.mark.slow

#: Seconds that the examination of a driver that hangs may take here.
HANG = 4.0

#: A hypervisor that works as mock does, until a variable of the environment names how it breaks.
TURNCOAT = """
    import os, threading, time
    from vc_core.driver import hookimpl
    from vc_hypervisor_mock import MockPlugin
    from vc_hypervisor_mock.hypervisor import MockHypervisor

    HOW = os.environ.get("TURNCOAT", "")

    def turn(when):
        if HOW == f"{when} fails":
            raise RuntimeError("bad day")
        if HOW == f"{when} hangs":
            threading.Event().wait()
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

#: A hypervisor whose VM is a process, from the page that shows how to write one.
PAGE = Path(__file__).parents[3] / "docs/how-to/write-a-hypervisor.md"
NAP = """
{hypervisor}

from vc_core.driver import hookimpl

class Plugin:
    @hookimpl
    def vc_hypervisor_create(self, pod, config, saved):
        return NapHypervisor(pod, config, saved)

if how := os.environ.get("NAP"):
    import threading
    threading.Event().wait() if how == "hangs" else os._exit(3)
"""

Turn = Callable[[str, str], None]
Virtc = Callable[..., str]


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
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", str(site))
    forget_strangers()

    def turn(variable: str, way: str) -> None:
        monkeypatch.setenv(variable, way)
        forget_strangers()

    yield turn
    if snag := sys.modules.get("stranger_snag"):
        snag.END.set()
    forget_strangers()


@pytest.fixture
def virtc(site: Path, tmp_path: Path) -> Virtc:
    """Return a function that runs the command with all of them installed and returns what it prints."""

    def run(*arguments: str, status: int = 0, **environment: str) -> str:
        done = subprocess.run(
            [Path(sys.executable).with_name("virtc"), *arguments],
            env={**os.environ, "PYTHONPATH": str(site), "VIRTCONTAINERS_ROOT": str(tmp_path / "root"), **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=100,
        )
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


@pytest.mark.root
@pytest.mark.parametrize("way", ["hangs", "crashes"])
def test_a_driver_gone_bad_cannot_keep_its_vm_after_its_supervisor_died(
    turn: Turn, store: Store, tmp_path: Path, way: str
) -> None:
    for name in ("kernel", "image"):
        (tmp_path / name).touch()
    (tmp_path / "bundle/rootfs/bin").mkdir(parents=True)
    hypervisor = vc.HypervisorConfig(kernel_path=str(tmp_path / "kernel"), image_path=str(tmp_path / "image"))
    container = vc.ContainerConfig(id="c1", root_fs=str(tmp_path / "bundle"), cmd=vc.Cmd(args=["sleep", "1000"]))
    vc.run_pod(
        vc.PodConfig(
            id="p1", hypervisor_type="nap", hypervisor_config=hypervisor, agent_type="noop", containers=[container]
        )
    )
    (supervisor,) = find_supervisors("p1", store.roots.pod_run_dir("p1") / LOG_NAME)
    vm = vm_identity(store.read("p1"))
    assert vm is not None
    assert supervisor.kill(10)
    turn("NAP", way)
    assert states() == {"p1": "running"}
    assert vm.alive()
    vc.delete_pod("p1", force=True)
    assert not vm.alive()
    assert states() == {}


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
