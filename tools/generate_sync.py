"""Generates the blocking API, ``vc_core.sync``, from the async one; ``tools/generate.py`` writes it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

_CORE = Path(__file__).parents[1] / "vc_core/src/vc_core"

#: The file that holds the blocking API.
PATH = _CORE / "sync.py"

#: Patterns and their replacements, applied in this order.
_CHANGES = (
    (
        r'^"""The async API: .*?^"""\n',
        '"""The blocking API, made from ``vc_core.aio`` by ``./dev generate``.\n"""\n',
    ),
    (r"\basync def ", "def "),
    (r"\bawait ", ""),
    (r"\brun_async\b", "run_blocking"),
    (r"\b__a(enter|exit|iter)__", r"__\1__"),
    (r"\b__anext__\b", "__next__"),
    (r"\bStopAsyncIteration\b", "StopIteration"),
    (r"\bAsync(Generator)\b", r"\1"),
    (r"^( *)for (\w+) in (\w+):\n +yield \2$", r"\1yield from \3"),
)


def blocking() -> str:
    """Return the text of the module ``vc_core.sync``."""
    text = (_CORE / "aio.py").read_text(encoding="utf-8")
    for pattern, replacement in _CHANGES:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE | re.DOTALL if "API" in pattern else re.MULTILINE)
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(PATH), "-"]
    return subprocess.run(command, input=text, capture_output=True, encoding="utf-8", check=True).stdout
