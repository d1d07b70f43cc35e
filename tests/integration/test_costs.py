"""What a pod costs on the host: the modules that a client imports to enter it, and the memory of its supervisor."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vc_core as vc

from .conftest import supervisors, virtc

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.hypervisors("qemu")]

#: What only a client needs that makes or starts a pod.
MAKING = {
    *("asyncio", "ssl", "logging", "json", "ctypes", "hashlib", "importlib.metadata", "stevedore", "pluggy", "qemu"),
    *("vc_core.plugins.registry", "vc_core.driver.agent", "vc_core.config.pod", "vc_core.cli.pod_options"),
    *("vc_core.host.sources", "vc_core.engine", "vc_core.store.settings", "vc_core.client.starting"),
    "vc_core.cli.container_options",
}

#: MiB that are the supervisor's own. The rest of its memory is files that all Python processes map.
MEMORY_MAX = 25


@pytest.fixture(scope="module")
def pod(bundle: Path) -> Iterator[vc.Pod]:
    made = virtc("pod", "run", "-q", "--id", "costs", "--bundle", str(bundle), "--", "sleep", "100000")
    assert made.returncode == 0, made.stderr
    yield vc.Pod("costs")
    vc.delete_pod("costs", force=True)


def test_a_command_that_enters_a_container_imports_nothing_of_what_makes_pods(pod: vc.Pod) -> None:
    script = "from vc_core.cli.entry import main; main()"
    words = [sys.executable, "-X", "importtime", "-c", script, "container", "enter", pod.id, "1", "--", "true"]
    done = subprocess.run(words, capture_output=True, encoding="utf-8", stdin=subprocess.DEVNULL, check=True)
    found = set(re.findall(r"^import time:[\s\d]+\|[\s\d]+\|\s+(\S+)$", done.stderr, flags=re.MULTILINE))
    assert "vc_core.client.connect" in found
    assert found & MAKING == set()


def test_the_memory_of_a_supervisor_is_small(pod: vc.Pod) -> None:
    [pid] = supervisors(pod.id)
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    own = int(re.findall(r"^Pss_Anon: +(\d+) kB$", rollup, flags=re.MULTILINE)[0])
    assert own / 1024 < MEMORY_MAX
