"""Compiled seccomp profiles are kept, and what is kept is used only where it is what would be compiled."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vc_runtime import programs, seccomp, spec

pytestmark = pytest.mark.needs("libseccomp")

PROFILE = spec.Seccomp(default_action="SCMP_ACT_ERRNO")
OTHER = spec.Seccomp(default_action="SCMP_ACT_ERRNO", default_errno_ret=2)
COMPILED = seccomp.program(PROFILE, [])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a directory of containers in which the program of a profile is kept."""
    made = tmp_path / "root"
    made.mkdir(mode=0o700)
    assert programs.program(made, PROFILE, []) == COMPILED
    return made


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch, root: Path) -> list[spec.Seccomp]:
    """Return the profiles that are compiled from now on."""
    found: list[spec.Seccomp] = []

    def program(profile: spec.Seccomp, notes: list[str]) -> bytes:
        found.append(profile)
        return COMPILED

    monkeypatch.setattr(seccomp, "program", program)
    return found


def kept(root: Path) -> Path:
    (file,) = (root / ":seccomp").iterdir()
    return file


def test_a_profile_is_compiled_once(root: Path, compiled: list[spec.Seccomp]) -> None:
    assert programs.program(root, PROFILE, []) == COMPILED
    assert compiled == []


def test_another_profile_has_its_own_program_although_the_sums_are_equal(
    root: Path, compiled: list[spec.Seccomp], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "crc32", lambda data: 0)
    programs.program(root, PROFILE, [])
    programs.program(root, OTHER, [])
    programs.program(root, OTHER, [])
    assert compiled == [PROFILE, OTHER]


def test_another_version_of_the_library_compiles_anew(
    root: Path, compiled: list[spec.Seccomp], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seccomp, "version", lambda: "99.0.0")
    programs.program(root, PROFILE, [])
    assert compiled == [PROFILE]


@pytest.mark.parametrize("content", [b"", b"x", b"\xff" * 100])
def test_a_file_that_is_none_is_written_anew(root: Path, compiled: list[spec.Seccomp], content: bytes) -> None:
    kept(root).write_bytes(content)
    assert [programs.program(root, PROFILE, []) for _ in range(2)] == [COMPILED] * 2
    assert compiled == [PROFILE]


def test_a_file_that_is_damaged_anywhere_is_not_used(root: Path, compiled: list[spec.Seccomp]) -> None:
    whole = kept(root).read_bytes()
    for index in range(len(whole)):
        kept(root).write_bytes(whole[:index] + bytes([whole[index] ^ 1]) + whole[index + 1 :])
        assert programs.program(root, PROFILE, []) == COMPILED
    assert compiled == [PROFILE] * len(whole)


@pytest.mark.parametrize("name", ["", ":seccomp", "file"])
def test_a_file_that_others_can_write_is_not_used(root: Path, compiled: list[spec.Seccomp], name: str) -> None:
    (kept(root) if name == "file" else root / name).chmod(0o777)
    programs.program(root, PROFILE, [])
    assert compiled == [PROFILE]


@pytest.mark.root
def test_a_file_of_another_user_is_not_used(root: Path, compiled: list[spec.Seccomp]) -> None:
    os.chown(kept(root), 12345, 12345)
    programs.program(root, PROFILE, [])
    assert compiled == [PROFILE]


def test_where_nothing_can_be_kept_each_profile_is_compiled(tmp_path: Path, compiled: list[spec.Seccomp]) -> None:
    assert [programs.program(tmp_path / "gone", PROFILE, []) for _ in range(2)] == [COMPILED] * 2
    assert compiled == [PROFILE] * 2
    assert not (tmp_path / "gone").exists()


def test_a_few_programs_are_kept(root: Path) -> None:
    for errno in range(1, 40):
        programs.program(root, spec.Seccomp(default_action="SCMP_ACT_ERRNO", default_errno_ret=errno), [])
    assert 0 < len(list((root / ":seccomp").iterdir())) <= 17
