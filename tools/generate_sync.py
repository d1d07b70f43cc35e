"""Makes the blocking API from the async one: ``python tools/generate_sync.py``."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

CORE = Path(__file__).parents[1] / "vc_core/src/vc_core"

#: What becomes what, in this order.
_CHANGES = (
    (
        r'^"""The async API: .*?^"""\n',
        '"""The blocking API, made from ``vc_core.aio`` by ``tools/generate_sync.py``.\n"""\n',
    ),
    (r"\basync def ", "def "),
    (r"\bawait ", ""),
    (r"\brun_async\b", "run_blocking"),
    (r"\b__a(enter|exit)__", r"__\1__"),
)


def blocking() -> str:
    """Return what ``vc_core/sync.py`` must hold."""
    text = (CORE / "aio.py").read_text(encoding="utf-8")
    for pattern, replacement in _CHANGES:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE | re.DOTALL if "API" in pattern else re.MULTILINE)
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(CORE / "sync.py"), "-"]
    return subprocess.run(command, input=text, capture_output=True, encoding="utf-8", check=True).stdout


if __name__ == "__main__":
    (CORE / "sync.py").write_text(blocking(), encoding="utf-8")
