"""Environments of Python apart from that of the project, which what they contain must not change."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


@functools.cache
def interpreter(name: str, *wanted: str) -> str:
    """Return the Python of the environment ``.cache/NAME``, which pip installs or updates as ``wanted`` says.

    ``wanted`` are requirements and options of ``pip install``. Raises CalledProcessError with pip's error output.
    """
    folder = ROOT / ".cache" / name
    python = str(folder / "bin/python")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--upgrade", *wanted]
    subprocess.run(pip, check=True, stderr=subprocess.PIPE, encoding="utf-8")
    return python
