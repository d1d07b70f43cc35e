"""Distributions that a test writes and pip installs, good and broken: plug-ins as strangers supply them."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

#: Version of every distribution that is written here.
VERSION = "7.8"


def write(folder: Path, name: str, group: str, entry_point: str, source: str) -> Path:
    """Write the source of a distribution ``stranger-NAME`` below a folder and return where it is.

    Its one module holds ``source``, whose class ``Plugin`` it offers as ``entry_point`` in the group ``vc_core.GROUP``.
    """
    module = f"stranger_{name.replace('-', '_')}"
    project = folder / name
    project.mkdir(parents=True)
    (project / f"{module}.py").write_text(textwrap.dedent(source))
    (project / "pyproject.toml").write_text(
        textwrap.dedent(f"""
            [build-system]
            requires = ["hatchling"]
            build-backend = "hatchling.build"
            [project]
            name = "stranger-{name}"
            version = "{VERSION}"
            [project.entry-points."vc_core.{group}"]
            {entry_point} = "{module}:Plugin"
            [tool.hatch.build.targets.wheel]
            only-include = ["{module}.py"]
        """)
    )
    return project


def install(site: Path, *projects: Path) -> None:
    """Install distributions into a directory, for PYTHONPATH; hatchling must be there. Takes a second or two each."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--no-compile", "--target", site, *projects], check=True, timeout=300)
