"""The wheels of all distributions of this repository, as pip makes them."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

#: The folder of each distribution that holds code, by its name.
FOLDERS = {
    tomllib.loads(path.read_text(encoding="utf-8"))["project"]["name"]: path.parent
    for path in [
        ROOT / "vc_core/pyproject.toml",
        *(path for top in ("drivers", "runtimes", "plugins-example") for path in ROOT.glob(f"{top}/*/pyproject.toml")),
    ]
}

#: Those of strangers, which only show how a plug-in is written.
EXAMPLES = sorted(name for name, folder in FOLDERS.items() if folder.parent.name == "plugins-example")

#: The pip of this environment serves others too, which saves its installation there.
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")


def make_environment(folder: Path) -> Path:
    """Make an environment without any package, and return its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=300)
    return folder / "bin/python"


def build_wheels(top: Path) -> Path:
    """Build all wheels, and return the directory that holds them.

    The environment has what ``[build-system]`` and the build hooks require and nothing else, as that of pip. One serves
    all, because all require the same; pip would make one for each, which takes longer than the builds.
    """
    projects = [tomllib.loads((one / "pyproject.toml").read_text(encoding="utf-8")) for one in FOLDERS.values()]
    (builders,) = {tuple(project["build-system"]["requires"]) for project in projects}
    requires = [*builders, *(name for project in projects for name in _required_by_hook(project))]
    pip = [*PIP, "--python", str(make_environment(top / "environment"))]
    wheels = top / "wheels"
    build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels)]
    for command in (["install", "--quiet", "--no-compile", *requires], [*build, *map(str, FOLDERS.values())]):
        subprocess.run([*pip, *command], check=True, timeout=600)
    return wheels


def _required_by_hook(project: dict[str, Any]) -> list[str]:
    """Return what a build requires because a hook executes the project itself."""
    hooks = project["tool"]["hatch"]["build"]["targets"]["wheel"].get("hooks", {})
    needs = hooks.get("custom", {}).get("require-runtime-dependencies", False)
    return list(project["project"]["dependencies"]) if needs else []
