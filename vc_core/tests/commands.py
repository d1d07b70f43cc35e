"""Runs the command ``virtc`` for the tests of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

MOCK = ("--hypervisor", "mock", "--agent", "noop")


def virtc(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("virtc")), *arguments],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60,
    )  # fmt: skip
