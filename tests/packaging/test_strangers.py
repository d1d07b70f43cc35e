"""The example plug-ins, installed and tested by themselves: with the dependencies that they name and nothing else."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.network]

EXAMPLES = sorted(path.parent for path in ROOT.glob("plugins-example/*/pyproject.toml"))

#: The folder of each distribution of this repository, by its name.
OURS = {
    tomllib.loads(path.read_text(encoding="utf-8"))["project"]["name"]: path.parent
    for path in [ROOT / "vc_core/pyproject.toml", *ROOT.glob("drivers/*/pyproject.toml")]
}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_is_installed_and_tested_with_what_it_names_and_nothing_else(example: Path, tmp_path: Path) -> None:
    project = tomllib.loads((example / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = project["dependencies"] + project["optional-dependencies"]["test"]
    needed = {name for text in requirements if (name := re.split(r"[\[<>=]", text)[0]) in OURS}
    copy = tmp_path / example.name
    shutil.copytree(example, copy, ignore=shutil.ignore_patterns("__pycache__"))

    # The pip of this environment serves the stranger's, which saves the installation of another one.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True, timeout=120)
    python = tmp_path / "venv/bin/python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    folders = [f"{copy}[test]", *(str(OURS[name]) for name in sorted(needed))]
    subprocess.run([*pip, "install", "--quiet", "--no-compile", *folders], check=True, timeout=600)
    listed = subprocess.run([*pip, "list", "--format=json"], check=True, capture_output=True, timeout=60).stdout
    assert {one["name"] for one in json.loads(listed) if one["name"].startswith("vc-")} == {project["name"], *needed}

    environment = {**os.environ, "VIRTCONTAINERS_ROOT": str(tmp_path / "root")}
    commands: list[list[str | Path]] = [
        [tmp_path / "venv/bin/virtc", "drivers", "--check"],
        [
            python,
            "-m",
            "pytest",
            "-q",
            "-m",
            "not vm" if os.geteuid() == 0 else "not vm and not root",
            "--import-mode=importlib",
            "-W",
            "error",
            "--rootdir",
            copy,
            copy,
        ],
    ]
    for command in commands:
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, encoding="utf-8", timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
