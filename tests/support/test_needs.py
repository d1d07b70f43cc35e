"""A test that needs what the host does not have is skipped, and the reason names what to install."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import needs

pytestmark = pytest.mark.slow

Session = Callable[..., subprocess.CompletedProcess[str]]

SUPPORT = Path(__file__).parent

HYBRID = (
    "30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - tmpfs tmpfs rw,mode=755\n"
    "31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw\n"
    "32 30 0:28 / /sys/fs/cgroup/memory rw shared:11 - cgroup cgroup rw,memory\n"
)


def test_what_is_missing_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "SBIN", "")
    monkeypatch.setenv("PATH", "")
    needs.missing.cache_clear()
    assert needs.missing("mke2fs") == "mke2fs is not installed; on Debian: apt install e2fsprogs"
    needs.missing.cache_clear()


def test_a_need_that_is_in_no_table_is_an_error() -> None:
    with pytest.raises(ValueError, match="'mke2sf' is neither in PROGRAMS nor in FEATURES"):
        needs.missing("mke2sf")


@pytest.mark.parametrize(
    ("mounts", "found"),
    [
        (HYBRID, Path("/sys/fs/cgroup/unified")),
        ("30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", Path("/sys/fs/cgroup")),
        ("30 25 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n", None),
    ],
    ids=["hybrid", "unified", "version 1"],
)
def test_control_groups_of_version_2_are_found_where_they_are_mounted(
    tmp_path: Path, mounts: str, found: Path | None
) -> None:
    (tmp_path / "mountinfo").write_text(mounts, encoding="utf-8")
    assert needs.cgroup_v2(tmp_path / "mountinfo") == found


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """Return a function that runs a test module in a pytest of its own, with the plug-ins of this repository."""

    def session(text: str, **environment: str) -> subprocess.CompletedProcess[str]:
        module = tmp_path / "test_module.py"
        module.write_text(f"import pytest\n{text}", encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-o", f"pythonpath={SUPPORT}"]
        return subprocess.run(
            [*command, "-p", "needs", "-p", "accepted_skips", module],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(SUPPORT), **environment},
            capture_output=True,
            encoding="utf-8",
            timeout=300,
        )

    return session


def test_a_test_is_skipped_before_its_fixtures_are_made(session: Session) -> None:
    text = """
@pytest.fixture(scope="module")
def made():
    raise AssertionError("made")

@pytest.mark.needs("musl-gcc", "cc")
def test_it(made): ...
"""
    done = session(text, PATH="/nowhere")
    assert "musl-gcc is not installed; on Debian: apt install musl-tools; cc is not installed" in done.stdout
    assert "AssertionError" not in done.stdout


SKIPS = """
def test_it():
    pytest.skip("it is Monday")

def test_other(): ...
"""


def test_a_skip_that_is_not_accepted_fails_a_run_of_continuous_integration(session: Session) -> None:
    done = session(SKIPS, CI="true")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "skips that accepted-skips.txt does not accept" in done.stdout
    assert "test_module.py::test_it: it is Monday" in done.stdout


def test_a_module_that_is_skipped_fails_a_run_of_continuous_integration_too(session: Session) -> None:
    done = session("def test_it(): ...\npytest.skip('not today', allow_module_level=True)", CI="true")
    assert "test_module.py: not today" in done.stdout


def test_an_accepted_skip_and_an_expected_failure_fail_no_run(session: Session) -> None:
    text = """
def test_it():
    pytest.skip("the hypervisor does not claim to have pause")

@pytest.mark.xfail(reason="later")
def test_other():
    assert False
"""
    assert session(text, CI="true").returncode == 0


def test_without_continuous_integration_any_skip_is_accepted(session: Session) -> None:
    assert session(SKIPS, CI="").returncode == 0
