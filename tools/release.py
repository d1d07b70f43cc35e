"""Makes a release: one version for all distributions, the page of changes, sdists and wheels, a commit and a tag.

Run by ``./dev release X.Y.Z``. Nothing leaves this machine: the last lines printed are the commands that publish.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

#: Where the version is read from; a release writes it to the other places.
SOURCE = Path("vc_core/src/vc_core/__init__.py")

#: The range of versions that one distribution accepts of another, in pyproject.toml and on the page that promises it.
_RANGE = re.compile(r"\b(vc-[a-z]+(?:-[a-z]+)?(?:\[[a-z]+\])?)>=\d+\.\d+,<\d+\.\d+")

Version = tuple[int, int, int]


class ReleaseError(Exception):
    """The release cannot be made; the text is the reason, in one sentence."""


def parse(text: str) -> Version:
    """Return a version ``X.Y.Z`` as numbers. Raises ReleaseError."""
    match = re.fullmatch(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)", text)
    if match is None:
        raise ReleaseError(f"{text!r} is not a version X.Y.Z")
    major, minor, patch = map(int, match.groups())
    return major, minor, patch


def distributions(root: Path) -> list[Path]:
    """Return the folder of every distribution: the members of the workspace."""
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    members = settings["tool"]["uv"]["workspace"]["members"]
    return [path.parent for member in members for path in sorted(root.glob(f"{member}/pyproject.toml"))]


def current_version(root: Path) -> str:
    """Return the version in the source tree."""
    match = re.search(r'^__version__ = "(.*)"$', (root / SOURCE).read_text(encoding="utf-8"), flags=re.MULTILINE)
    if match is None:
        raise ReleaseError(f"{SOURCE} has no line __version__")
    return match[1]


def set_version(root: Path, version: str) -> None:
    """Write a version to every distribution, and its minor version to the ranges in which they depend on each other."""
    major, minor, _ = parse(version)
    _substitute(root / SOURCE, r'^__version__ = ".*"$', f'__version__ = "{version}"')
    for folder in distributions(root):
        _substitute(folder / "pyproject.toml", r'^version = ".*"$', f'version = "{version}"')
    for path in [
        *(folder / "pyproject.toml" for folder in distributions(root)),
        root / "docs/reference/compatibility.md",
    ]:
        text = _RANGE.sub(rf"\g<1>>={major}.{minor},<{major}.{minor + 1}", path.read_text(encoding="utf-8"))
        path.write_text(text, encoding="utf-8")


def _substitute(path: Path, pattern: str, line: str) -> None:
    text, count = re.subn(pattern, line, path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    if count != 1:
        raise ReleaseError(f"{path} has {count} lines like {line!r}; it must have one")
    path.write_text(text, encoding="utf-8")


def check(root: Path, version: str) -> None:
    """Raise ReleaseError unless the tree is committed and the version is newer than every release."""
    wanted = parse(version)
    if changed := _git(root, "status", "--porcelain"):
        raise ReleaseError(f"the tree has changes that are not committed: {', '.join(changed.split()[1::2])}")
    released = [parse(tag[1:]) for tag in _git(root, "tag", "--list", "v[0-9]*").split()]
    if released and wanted <= max(released):
        newest = ".".join(map(str, max(released)))
        raise ReleaseError(f"version {version} is not greater than {newest}, the newest release")
    if wanted < parse(current_version(root)):
        raise ReleaseError(f"version {version} is less than {current_version(root)}, the version of the tree")


def build(root: Path, version: str) -> list[Path]:
    """Build and check an sdist of every distribution, and a wheel from that sdist; return them, all in ``dist/``."""
    dist = root / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    for folder in distributions(root):
        print(f"building {folder.name}", flush=True)
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(dist), str(folder)]
        licence = folder / "LICENSE"  # each archive carries the text; hatchling would store a link as a link
        shutil.copy(root / "LICENSE", licence)
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8")
        finally:
            licence.unlink()
        if done.returncode:
            raise ReleaseError(f"cannot build {folder.name}:\n{done.stdout}")
    files = sorted(dist.iterdir())
    missing = [
        f"{folder.name} ({kind})"
        for folder in distributions(root)
        for kind, ending in (("sdist", ".tar.gz"), ("wheel", ".whl"))
        if not any(f"-{version}" in path.name and path.name.endswith(ending) and _is_of(path, folder) for path in files)
    ]
    if missing or len(files) != 2 * len(distributions(root)):
        raise ReleaseError(f"dist/ does not hold one sdist and one wheel of each distribution; missing: {missing}")
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *map(str, files)], check=True)
    return files


def _is_of(path: Path, folder: Path) -> bool:
    match = re.search(r'^name = "(.*)"$', (folder / "pyproject.toml").read_text(encoding="utf-8"), flags=re.MULTILINE)
    return match is not None and path.name.split("-")[0] == match[1].replace("-", "_")


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, encoding="utf-8")
    if done.returncode:
        raise ReleaseError(f"git {arguments[0]}: {done.stderr.strip()}")
    return done.stdout


def release(root: Path, version: str, *, dry_run: bool) -> None:
    """Make a release in a checkout. A dry run, or a failure, leaves only ``dist/`` changed."""
    check(root, version)
    done = False
    try:
        set_version(root, version)
        subprocess.run(
            [sys.executable, "-m", "towncrier", "build", "--yes", "--version", version], cwd=root, check=True
        )
        build(root, version)
        if not dry_run:
            _git(root, "commit", "--all", "--message", f"Release {version}")
            done = True
            _git(root, "tag", "--annotate", "--message", f"Release {version}", f"v{version}")
    except subprocess.CalledProcessError as error:
        raise ReleaseError(f"{error.cmd[2]} ended with exit code {error.returncode}") from error
    finally:
        if not done:
            _git(root, "restore", "--staged", "--worktree", ":/")
    for line in _next_steps(version, dry_run):
        print(line)


def _next_steps(version: str, dry_run: bool) -> Iterator[str]:
    if dry_run:
        yield f"\nDry run: dist/ holds {version}; nothing was committed or tagged. To make the release, type:\n"
        yield f"    ./dev release {version}"
        return
    yield f"\n{version} is committed and tagged here. To publish it, type:\n"
    yield f"    git push --atomic origin HEAD v{version}"
    yield "    .cache/release/bin/twine upload dist/*"


def main() -> None:
    """Read the arguments and make the release; exit with 1 and one sentence on failure."""
    parser = argparse.ArgumentParser(prog="./dev release", description=__doc__)
    parser.add_argument("version", metavar="X.Y.Z")
    parser.add_argument("--dry-run", action="store_true", help="do everything, then undo all but dist/")
    arguments = parser.parse_args()
    try:
        release(ROOT, arguments.version, dry_run=arguments.dry_run)
    except ReleaseError as error:
        sys.exit(f"release: {error}")


if __name__ == "__main__":
    main()
