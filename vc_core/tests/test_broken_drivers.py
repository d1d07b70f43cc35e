"""A driver that goes bad, in whatever way, harms no other, and its own pods can be listed, looked at and deleted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vc_core.process import find_supervisors
from vc_core.status import vm_identity
from vc_core.store import Store
from vc_core.testing import distributions
from vc_core.wire import LOG_NAME

#: A hypervisor as good as mock, until the environment says how it goes bad.
TURNCOAT = """
    import os, threading, time
    from vc_core.hookspecs import hookimpl
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
        async def stop(self, deadline):
            turn("stop")
            await super().stop(deadline)

    class Plugin(MockPlugin):
        @hookimpl
        def vc_hypervisor_config(self, options):
            turn("config")
            return None if HOW == "config is nonsense" else super().vc_hypervisor_config(options)

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

#: An extension that is in the way of everything.
SNAG = """
    import os, threading
    from vc_core.hookspecs import hookimpl

    HOW = os.environ.get("SNAG", "")
    if HOW == "import hangs":
        threading.Event().wait()

    class Plugin:
        @hookimpl
        def vc_pod_transition(self, pod_id, old, new):
            if HOW == "being told hangs":
                threading.Event().wait()
            if HOW == "being told exits":
                raise SystemExit(3)
"""

#: How it goes bad -> what is said of it; "" where nothing can be seen without stopping a VM.
WAYS = {
    "import fails": "RuntimeError: bad day",
    "import hangs": "hangs (10 s) in this step: loading it",
    "import exits": "SystemExit: 3",
    "import crashes": "ends the process in this step: loading it",
    "probe hangs": "hangs (10 s) in this step: vc_driver_probe",
    "probe is nonsense": "returned {1: 2} from vc_driver_probe, which must return a list of strings",
    "config fails": "raised RuntimeError: bad day from vc_hypervisor_config",
    "create is nonsense": "returned 'nonsense' from vc_hypervisor_create",
    "stop hangs": "",
    "stop crashes": "",
}

#: A hypervisor whose VM is a process, from the page that shows how to write one.
PAGE = Path(__file__).parents[2] / "docs/how-to/write-a-hypervisor.md"
NAP = """
{hypervisor}

from vc_core.hookspecs import hookimpl

class Plugin:
    @hookimpl
    def vc_hypervisor_config(self, options):
        if options:
            raise ConfigError(f"hypervisor nap has no option {{min(options)!r}}")
        return "none"

    @hookimpl
    def vc_hypervisor_create(self, pod, config, saved):
        return NapHypervisor(pod, config, saved)

if how := os.environ.get("NAP"):
    import threading
    threading.Event().wait() if how == "hangs" else os._exit(3)
"""

Virtc = Callable[..., str]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all of them, as pip left it, and a second one, in it, that offers the same driver."""
    site, sources = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("sources")
    turncoat = distributions.write(sources, "turncoat", "hypervisors", "turncoat", TURNCOAT)
    snag = distributions.write(sources, "snag", "extensions", "snag", SNAG)
    hypervisor = next(block for block in PAGE.read_text().split("```") if "class NapHypervisor" in block)
    source = hypervisor.removeprefix("python").replace("from vc_hypervisor_nap.config import NapConfig", "")
    nap = distributions.write(sources, "nap", "hypervisors", "nap", NAP.format(hypervisor=source.strip()))
    distributions.install(site, turncoat, snag, nap)
    distributions.install(site / "rival", distributions.write(sources, "rival", "hypervisors", "turncoat", TURNCOAT))
    return site


@pytest.fixture
def virtc(site: Path, tmp_path: Path) -> Virtc:
    """Run the command with the two installed, in a world of its own."""

    def run(*arguments: str, path: str = str(site), status: int = 0, **environment: str) -> str:
        done = subprocess.run(
            [Path(sys.executable).with_name("virtc"), *arguments],
            env={**os.environ, "PYTHONPATH": path, "VIRTCONTAINERS_ROOT": str(tmp_path / "root"), **environment},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100,
        )  # fmt: skip
        assert done.returncode == status, done.stderr
        return done.stdout

    return run


def create(virtc: Virtc, name: str, hypervisor: str) -> None:
    virtc("pod", "create", "--id", name, "--hypervisor", hypervisor, "--agent", "noop")


def states(listed: str) -> dict[str, str]:
    return {pod["id"]: pod["state"] for pod in json.loads(listed)}


def examined(listed: str) -> dict[str, str]:
    return {one["name"]: "; ".join(one["faults"]) for one in json.loads(listed)}


def test_the_driver_is_good_before_it_turns(virtc: Virtc) -> None:
    create(virtc, "p1", "turncoat")
    virtc("pod", "start", "p1")
    virtc("pod", "stop", "p1")
    virtc("pod", "delete", "p1")
    assert examined(virtc("drivers", "--check", "--json"))["turncoat"] == ""


@pytest.mark.parametrize(("way", "said"), WAYS.items())
def test_a_driver_gone_bad_harms_no_other_and_its_pods_can_be_deleted(virtc: Virtc, way: str, said: str) -> None:
    for name in ("ready", "running"):
        create(virtc, name, "turncoat")
    virtc("pod", "start", "running")
    bad = {"TURNCOAT": way}
    assert states(virtc("pod", "list", "--json", **bad)) == {"ready": "ready", "running": "running"}
    assert json.loads(virtc("pod", "status", "--json", "running", **bad))["state"] == "running"

    create(lambda *arguments: virtc(*arguments, **bad), "other", "mock")
    virtc("pod", "start", "other", **bad)
    virtc("pod", "delete", "--force", "other", **bad)

    found = examined(virtc("drivers", "--check", "--json", status=1 if said else 0, **bad))
    assert said in found.pop("turncoat")
    assert set(found.values()) == {""}

    virtc("pod", "delete", "--force", "running", **bad)
    virtc("pod", "delete", "--force", "ready", **bad)
    assert states(virtc("pod", "list", "--json")) == {}


@pytest.mark.root
@pytest.mark.parametrize("way", ["hangs", "crashes"])
def test_a_driver_gone_bad_cannot_keep_its_vm_after_its_supervisor_died(
    virtc: Virtc, store: Store, tmp_path: Path, way: str
) -> None:
    for name in ("kernel", "image"):
        (tmp_path / name).touch()
    files = ["--kernel", str(tmp_path / "kernel"), "--image", str(tmp_path / "image")]
    (tmp_path / "bundle/rootfs/bin").mkdir(parents=True)
    pod = ["--id", "p1", "--hypervisor", "nap", "--agent", "noop", "--bundle", str(tmp_path / "bundle")]
    virtc("pod", "run", "--quiet", *pod, *files, "--", "sleep", "1000")
    (supervisor,) = find_supervisors("p1", store.roots.pod_run_dir("p1") / LOG_NAME)
    vm = vm_identity(store.read("p1"))
    assert vm is not None
    assert supervisor.kill(10)
    bad = {"NAP": way}
    assert states(virtc("pod", "list", "--json", **bad)) == {"p1": "running"}
    assert vm.alive()
    virtc("pod", "delete", "--force", "p1", **bad)
    assert not vm.alive()
    assert states(virtc("pod", "list", "--json")) == {}


@pytest.mark.parametrize("change", ["gone", "offered twice"])
def test_a_driver_that_is_gone_or_offered_twice_harms_no_other_either(virtc: Virtc, site: Path, change: str) -> None:
    path = {"gone": "", "offered twice": f"{site}:{site}/rival"}[change]
    create(virtc, "p1", "turncoat")
    virtc("pod", "start", "p1")
    assert states(virtc("pod", "list", "--json", path=path)) == {"p1": "running"}
    found = examined(virtc("drivers", "--check", "--json", path=path, status=int(change != "gone")))
    if change != "gone":
        assert "stranger-rival 7.8 and stranger-turncoat 7.8" in found.pop("turncoat")
    assert set(found.values()) == {""}
    virtc("pod", "delete", "--force", "p1", path=path)
    assert states(virtc("pod", "list", "--json")) == {}


@pytest.mark.parametrize("way", ["import hangs", "being told hangs", "being told exits"])
def test_an_extension_that_hangs_or_exits_stops_nothing(virtc: Virtc, way: str) -> None:
    bad = {"SNAG": way}
    create(virtc, "p1", "mock")
    virtc("pod", "start", "p1", **bad)
    assert states(virtc("pod", "list", "--json", **bad)) == {"p1": "running"}
    virtc("pod", "delete", "--force", "p1", **bad)
    assert states(virtc("pod", "list", "--json")) == {}
