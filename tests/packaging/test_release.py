"""A release: what it refuses, and that it writes one version everywhere. ``./dev release --dry-run`` tries the rest."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder

from scripts import load

ROOT = Path(__file__).parents[2]


RELEASE = load(ROOT / "tools/release.py")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the files that a release changes."""
    paths = [RELEASE.SOURCE, Path("pyproject.toml"), Path("docs/reference/compatibility.md")]
    paths += [folder.relative_to(ROOT) / "pyproject.toml" for folder in RELEASE.distributions(ROOT)]
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    return tmp_path


def git(tree: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *arguments], cwd=tree, check=True, capture_output=True)


@pytest.fixture
def repository(tree: Path) -> Path:
    """The same as a git repository without changes, of version 0.1.0."""
    if shutil.which("git") is None:
        pytest.skip("needs git (Debian package git)")
    RELEASE.set_version(tree, "0.1.0")
    git(tree, "init", "--quiet")
    git(tree, "add", "--all")
    git(tree, "commit", "--quiet", "--message", "All")
    return tree


def test_a_release_writes_its_version_to_every_distribution_and_every_range_between_them(tree: Path) -> None:
    RELEASE.set_version(tree, "3.14.1")
    assert RELEASE.current_version(tree) == "3.14.1"
    assert "`vc-core>=3.14,<3.15`" in (tree / "docs/reference/compatibility.md").read_text(encoding="utf-8")
    assert len(RELEASE.distributions(tree)) == len(RELEASE.distributions(ROOT))
    for folder in RELEASE.distributions(tree):
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        assert project["version"] == "3.14.1"
        extras = [one for extra in project.get("optional-dependencies", {}).values() for one in extra]
        for requirement in project["dependencies"] + extras:
            assert not requirement.startswith("vc-") or requirement.endswith(">=3.14,<3.15"), requirement


def test_a_release_has_every_folder_with_a_project() -> None:
    folders = [path.parent for pattern in ("*", "*/*") for path in ROOT.glob(f"{pattern}/pyproject.toml")]
    assert sorted(RELEASE.distributions(ROOT)) == sorted(folders)


def test_an_sdist_holds_nothing_that_git_ignores_such_as_compiled_programs() -> None:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout
    sources = {str(ROOT / name) for name in listed.split("\0")}
    for folder in RELEASE.distributions(ROOT):
        files = {file.path for file in SdistBuilder(str(folder)).recurse_included_files()}
        assert files
        assert files <= sources, sorted(files - sources)


def test_a_release_leaves_requirements_of_other_projects_alone(tree: Path) -> None:
    RELEASE.set_version(tree, "3.14.1")
    for path in [Path("vc_core/pyproject.toml"), Path("drivers/qemu/pyproject.toml")]:
        before, after = (
            tomllib.loads((root / path).read_text(encoding="utf-8"))["project"]["dependencies"] for root in (ROOT, tree)
        )
        assert [one for one in before if "vc-" not in one] == [one for one in after if "vc-" not in one]


@pytest.mark.parametrize("version", ["1.2", "1.2.3rc1", "v1.2.3", "01.2.3", "1.2.3\n"])
def test_a_version_has_three_numbers(version: str) -> None:
    with pytest.raises(RELEASE.ReleaseError, match="is not a version"):
        RELEASE.parse(version)


@pytest.mark.parametrize("version", ["0.1.0", "0.1.1", "1.0.0"])
def test_a_first_release_may_have_the_version_of_the_tree_or_a_later_one(repository: Path, version: str) -> None:
    RELEASE.check(repository, version)


def test_a_version_below_that_of_the_tree_is_refused(repository: Path) -> None:
    with pytest.raises(RELEASE.ReleaseError, match=re.escape("0.0.9 is less than 0.1.0, the version of the tree")):
        RELEASE.check(repository, "0.0.9")


@pytest.mark.parametrize("version", ["0.9.0", "0.10.0"])
def test_a_version_that_is_not_above_all_releases_is_refused(repository: Path, version: str) -> None:
    git(repository, "tag", "v0.10.0")
    git(repository, "tag", "v0.2.0")
    with pytest.raises(RELEASE.ReleaseError, match=re.escape(f"{version} is not greater than 0.10.0")):
        RELEASE.check(repository, version)
    RELEASE.check(repository, "0.10.1")


@pytest.mark.parametrize("path", ["new", "docs/reference/compatibility.md"])
def test_a_tree_with_changes_is_refused(repository: Path, path: str) -> None:
    (repository / path).write_text("a change\n", encoding="utf-8")
    with pytest.raises(RELEASE.ReleaseError, match=f"not committed: {path}$"):
        RELEASE.check(repository, "0.2.0")


def test_a_failed_release_leaves_the_tree_as_it_was(repository: Path) -> None:
    with pytest.raises(RELEASE.ReleaseError):  # this tree has no changelog, so that no page can be made
        RELEASE.release(repository, "0.2.0", dry_run=False)
    RELEASE.check(repository, "0.2.0")
    assert RELEASE.current_version(repository) == "0.1.0"


def test_each_fragment_is_of_a_kind_that_the_page_has() -> None:
    kinds = {
        one["directory"]
        for one in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["towncrier"]["type"]
    }
    for path in (ROOT / "changelog.d").glob("*"):
        if path.name != "template.md.jinja":
            assert re.fullmatch(rf"[a-z0-9-]+\.({'|'.join(sorted(kinds))})\.md", path.name), path.name
            assert path.read_text(encoding="utf-8").strip()
