"""A look at the pods costs little, because it imports little."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

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
    *("vc_core.plugins.registry", "vc_core.cli.pod_options", "vc_core.cli.check", "vc_core.host_report", "vc_core.podfile", "yaml"),
}

LOOKS = {
    "vc_core.list_pods()": ["import vc_core; vc_core.list_pods()"],
    "virtc pod list": ["from vc_core.cli.entry import main; main()", "pod", "list"],
}


@pytest.mark.parametrize("look", LOOKS)
def test_listing_pods_imports_neither_drivers_nor_their_machinery(look: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", *LOOKS[look]],
        env={**os.environ, "VIRTCONTAINERS_ROOT": str(tmp_path)},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    imported = set(re.findall(r"^import time:[\s\d]+\|[\s\d]+\|\s+(\S+)$", done.stderr, flags=re.MULTILINE))
    assert "vc_core.store.store" in imported, "the pods were not looked at"
    assert imported & HEAVY == set()
    assert not [name for name in imported if re.match(r"vc_(hypervisor|agent|spawner|guest)_", name)]
