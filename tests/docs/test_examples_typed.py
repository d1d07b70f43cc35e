"""Type checkers accept the programs in the documentation, and refuse what the API refuses."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = re.compile(r"^```python\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
#: Pages for users of the API; those for authors of drivers show parts of files.
PAGES = [page for folder in ("how-to", "tutorial") for page in sorted((ROOT / "docs" / folder).glob("[!w]*.md"))]

pytestmark = pytest.mark.slow


def mypy(*files: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mypy", "--strict", "--scripts-are-modules", "--no-error-summary"]
    command += ["--config-file", "", "--cache-dir", str(ROOT / ".mypy_cache/examples"), *map(str, files)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONWARNDEFAULTENCODING"}
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, encoding="utf-8", timeout=300
    )


def test_the_examples_pass_a_strict_type_check(tmp_path: Path) -> None:
    files = []
    for page in PAGES:
        for number, text in enumerate(PROGRAM.findall(page.read_text(encoding="utf-8"))):
            files.append(tmp_path / f"{page.stem.replace('-', '_')}_{number}.py")
            files[-1].write_text(text, encoding="utf-8")
    assert len(files) > 10
    assert mypy(*files).stdout == ""


def test_forms_that_are_accepted_pass_and_others_do_not(tmp_path: Path) -> None:
    lines = (
        "import vc_core as vc",
        'mode: vc.NetworkMode = vc.NetworkConfig(mode="user").mode',
        'cmd: vc.Cmd = vc.ContainerConfig(id="c", cmd=["ls"]).cmd',
        'vc.Cmd(["ls", "-l"], work_dir="/")',
        'vc.NetworkConfig(mode="users")',
        'vc.ContainerConfig(id="c", cmd=5)',
        'vc.PortForward(80, protocol="sctp")',
    )
    file = tmp_path / "forms.py"
    file.write_text("\n".join(lines), encoding="utf-8")
    assert re.findall(r"^\S+:(\d+): error: ", mypy(file).stdout, flags=re.MULTILINE) == ["5", "6", "7"]
