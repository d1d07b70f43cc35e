"""The example plug-ins, installed and tested by themselves: with the dependencies that they name and nothing else."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from wheels import EXAMPLES, FOLDERS, PIP, make_environment

pytestmark = [pytest.mark.slow, pytest.mark.network]


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_installed_and_tested_with_what_it_names_and_nothing_else(
    example: str, wheels: dict[str, Path], tmp_path: Path
) -> None:
    project = tomllib.loads((FOLDERS[example] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = project["dependencies"] + project["optional-dependencies"]["test"]
    needed = {name for text in requirements if (name := re.split(r"[\[<>=]", text)[0]) in FOLDERS}
    copy = tmp_path / example
    shutil.copytree(FOLDERS[example], copy, ignore=shutil.ignore_patterns("__pycache__"))

    python = make_environment(tmp_path / "venv")
    pip = [*PIP, "--python", str(python)]
    packages = [f"{wheels[example]}[test]", *(str(wheels[name]) for name in sorted(needed))]
    subprocess.run([*pip, "install", "--quiet", "--no-compile", *packages], check=True, timeout=600)
    listed = subprocess.run([*pip, "list", "--format=json"], check=True, capture_output=True, timeout=60).stdout
    assert {one["name"] for one in json.loads(listed) if one["name"].startswith("vc-")} == {example, *needed}

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
