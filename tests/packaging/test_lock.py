"""The locks hold what this repository needs, at versions within the declared ranges, with hashes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from scripts import load

ROOT = Path(__file__).parents[2]


LOCK = load(ROOT / "tools/lock.py")
SOURCES = {
    LOCK.lock_of(LOCK.TOOLS): LOCK.everything(),
    **{LOCK.lock_of(tools): LOCK.lines(tools) for tools in LOCK.APART},
}


def locked(lock: Path) -> dict[str, str]:
    """Return the version of each package in a lock, and fail for a package without a hash."""
    found = {}
    for entry in re.split(r"\n(?=\S)", lock.read_text(encoding="utf-8").strip())[1:]:
        match = re.match(r"(\S+)==(\S+) .*--hash=sha256:[0-9a-f]{64}", entry, flags=re.DOTALL)
        assert match, entry
        found[match[1]] = match[2]
    return found


@pytest.mark.parametrize("lock", SOURCES, ids=lambda lock: lock.name)
def test_a_lock_holds_each_requirement_at_a_version_of_its_range(lock: Path) -> None:
    versions = locked(lock)
    for text in SOURCES[lock]:
        requirement = Requirement(text)
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        assert name in versions, f"run ./dev lock: {lock.name} does not hold {name}"
        assert requirement.specifier.contains(versions[name]), (
            f"run ./dev lock: {lock.name} has {name} {versions[name]}"
        )


def test_the_requirements_of_every_distribution_are_locked() -> None:
    everything = LOCK.everything()
    for part in ("stevedore", "asyncssh", "qemu.qmp", "pytest", "hatchling", "ruff"):
        assert [one for one in everything if one.startswith(part)], part
    assert not [one for one in everything if one.startswith("vc-")]
