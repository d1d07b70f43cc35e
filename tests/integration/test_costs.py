"""What a pod costs on the host: the modules that its supervisor and its clients import, and the supervisor's memory."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vc_core as vc
from vc_core.store.store import Store

from .conftest import supervisors, virtc

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.hypervisors("qemu")]

#: What a supervisor that serves a pod of the default drivers has no use for.
NEEDLESS = {
    "click",
    "rich",
    "pip",
    "setuptools",
    "asyncssh",
    "http.client",
    "unittest",
    "vc_core.cli",
    "vc_core.aio",
} | {"packaging.requirements"}

#: What only a client needs that makes or starts a pod.
MAKING = {
    *("asyncio", "ssl", "logging", "json", "ctypes", "hashlib", "importlib.metadata", "stevedore", "pluggy", "qemu"),
    *("vc_core.plugins.registry", "vc_core.driver.agent", "vc_core.config.pod", "vc_core.cli.pod_options"),
    *("vc_core.host.sources", "vc_core.engine", "vc_core.store.settings"),
}

#: MiB that are the supervisor's own. The rest of its memory is files that all Python processes map.
MEMORY_MAX = 25


def imported(text: str) -> set[str]:
    """Return the modules in what an interpreter writes with ``-X importtime``."""
    return set(re.findall(r"^import time:[\s\d]+\|[\s\d]+\|\s+(\S+)$", text, flags=re.MULTILINE))


@pytest.fixture(scope="module")
def pod(bundle: Path) -> Iterator[vc.Pod]:
    """Return a pod whose supervisor writes into its log what it imports."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPROFILEIMPORTTIME", "1")
        made = virtc("pod", "run", "-q", "--id", "costs", "--bundle", str(bundle), "--", "sleep", "100000")
    assert made.returncode == 0, made.stderr
    yield vc.Pod("costs")
    vc.delete_pod("costs", force=True)


def test_a_supervisor_imports_nothing_of_the_command_and_no_network_client(pod: vc.Pod, store: Store) -> None:
    found = imported((store.roots.pod_run_dir(pod.id) / "supervisor.log").read_text(encoding="utf-8"))
    assert "vc_agent_hyperstart.agent" in found, "the log does not have what the supervisor imported"
    assert found & NEEDLESS == set()


def test_a_command_that_enters_a_container_imports_nothing_of_what_makes_pods(pod: vc.Pod) -> None:
    script = "from vc_core.cli.entry import main; main()"
    words = [sys.executable, "-X", "importtime", "-c", script, "container", "enter", pod.id, "1", "--", "true"]
    done = subprocess.run(words, capture_output=True, encoding="utf-8", stdin=subprocess.DEVNULL, check=True)
    found = imported(done.stderr)
    assert "vc_core.client.connect" in found
    assert found & MAKING == set()


def test_the_memory_of_a_supervisor_is_small(pod: vc.Pod) -> None:
    [pid] = supervisors(pod.id)
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    own = int(re.findall(r"^Pss_Anon: +(\d+) kB$", rollup, flags=re.MULTILINE)[0])
    assert own / 1024 < MEMORY_MAX
