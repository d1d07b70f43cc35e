"""A look at the pods costs little, because it imports little."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import vc_core as vc
from vc_core.host.processes import supervisor_arguments
from vc_core.plugins.discovery import installed
from vc_core.supervisor.early import Early
from vc_core.supervisor.ready import GO, OK

#: What only operations on a pod need, or what draws tables on a terminal.
HEAVY = {
    *(
        "asyncio",
        "ssl",
        "logging",
        "json",
        "ctypes",
        "importlib.metadata",
        "stevedore",
        "pluggy",
        "rich",
        "qemu",
        "asyncssh",
    ),
    *(
        "vc_core.plugins.registry",
        "vc_core.cli.pod_options",
        "vc_core.cli.options",
        "vc_core.config.container",
        "vc_core.cli.check",
        "vc_core.host_report",
        "vc_core.podfile",
        "yaml",
    ),
}

#: What a supervisor has no use for that starts a pod of the default drivers.
NEEDLESS = {
    *("click", "rich", "pip", "setuptools", "asyncssh", "http.client", "unittest", "packaging.requirements"),
    *("vc_core.cli", "vc_core.aio", "vc_core.client"),
    *("importlib.metadata", "stevedore", "packaging", "email"),  # its starter has found the plug-ins
}

LOOKS = {
    "vc_core.list_pods()": ["import vc_core; vc_core.list_pods()"],
    "virtc pod list": ["from vc_core.cli.entry import main; main()", "pod", "list"],
}


def imported(text: str) -> set[str]:
    """Return the modules in what an interpreter writes with ``-X importtime``."""
    return set(re.findall(r"^import time:[\s\d]+\|[\s\d]+\|\s+(\S+)$", text, flags=re.MULTILINE))


@pytest.mark.parametrize("look", LOOKS)
def test_listing_pods_imports_neither_drivers_nor_their_machinery(look: str, tmp_path: Path) -> None:
    def run(*words: str) -> set[str]:
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-c", *words],
            env={**os.environ, "VIRTCONTAINERS_ROOT": str(tmp_path)},
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
        return imported(done.stderr)

    # What measures coverage is in every interpreter, and old versions of msgspec import json.
    found = run(*LOOKS[look]) - run("import msgspec")
    assert "vc_core.store.store" in found, "the pods were not looked at"
    assert found & HEAVY == set()
    assert not [name for name in found if re.match(r"vc_(hypervisor|agent|spawner|guest)_", name)]


def test_a_supervisor_imports_nothing_of_the_command_and_no_network_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIRTCONTAINERS_ROOT", str(tmp_path))
    config = vc.PodConfig(id="p1", hypervisor_type="qemu", agent_type="hyperstart")
    vc.create_pod(config)
    reading, ready = os.pipe()
    try:
        with subprocess.Popen(
            [sys.executable, "-X", "importtime", *supervisor_arguments("p1"), str(ready)],
            pass_fds=[ready],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            os.close(ready)
            assert process.stdin is not None
            assert process.stderr is not None
            early = Early(config, installed().hand_over())
            process.stdin.write(msgspec.json.encode(early) + b"\n" + GO)
            process.stdin.flush()
            text = process.stderr.read().decode()  # up to where its log is the standard error
            assert os.read(reading, 100) == OK
            process.kill()
    finally:
        os.close(reading)
    found = imported(text)
    assert "vc_core.engine.engine" in found
    if os.geteuid() == 0:  # a plain user's loads them in its namespaces
        assert {"vc_hypervisor_qemu.hypervisor", "vc_agent_hyperstart.agent"} <= found
    assert found & NEEDLESS == set()
