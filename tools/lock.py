"""Writes the locks: every package that this repository installs, at one version, with its hashes.

Called as ``./dev lock``, after a range of a dependency changed or to take newer versions; it needs the network. The
ranges of a release stay in each pyproject.toml; the locks are what ``./dev`` and continuous integration install.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
TOOLS = ROOT / "tools/requirements.txt"
#: What is installed into environments of its own.
APART = tuple(ROOT / f"tools/{of}-requirements.txt" for of in ("bench", "engines", "pyright", "release"))
OLDEST_PYTHON = "3.11"
COMMENT = f"# Made by ./dev lock, for Python {OLDEST_PYTHON} and newer."


def projects() -> list[Path]:
    """Return the pyproject.toml of every distribution."""
    return sorted(path for pattern in ("*", "*/*") for path in ROOT.glob(f"{pattern}/pyproject.toml"))


def lock_of(requirements: Path) -> Path:
    """Return the lock that is made from a file of requirements."""
    return requirements.with_suffix(".lock")


def everything() -> list[str]:
    """Return what the distributions, their extras, their builds and the tools require of other projects."""
    found = set(lines(TOOLS))
    own = set()
    for path in projects():
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        project = content["project"]
        own.add(project["name"])
        found.update(project.get("dependencies", ()), content["build-system"]["requires"])
        for extra in project.get("optional-dependencies", {}).values():
            found.update(extra)
    return sorted(one for one in found if re.split(r"[^\w.-]", one)[0] not in own)


def lines(path: Path) -> list[str]:
    """Return the requirements in a file, without its comments."""
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]


def write(lock: Path, requirements: Sequence[str]) -> None:
    """Resolve requirements with uv, and write a lock. Raises CalledProcessError."""
    command = [str(Path(sys.executable).with_name("uv")), "pip", "compile", "--quiet", "--no-sources", "--universal"]
    command += [
        "--python-version",
        OLDEST_PYTHON,
        "--generate-hashes",
        "--upgrade",
        "--no-annotate",
        "--no-header",
        "-",
    ]
    done = subprocess.run(
        command, input="\n".join(requirements), stdout=subprocess.PIPE, encoding="utf-8", check=True, cwd=ROOT
    )
    lock.write_text(f"{COMMENT}\n{done.stdout}", encoding="utf-8")


if __name__ == "__main__":
    write(lock_of(TOOLS), everything())
    for tools in APART:
        write(lock_of(tools), lines(tools))
