"""The core's own checks of the host: each part that it needs is examined or tried."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from vc_core.host import checks
from vc_core.host_report import CheckOutcome, HostCheck
from vc_core.store.roots import Roots, private_directory
from vc_core.store.settings import CONFIG_VARIABLE

OK, WARNING, ERROR = CheckOutcome.OK, CheckOutcome.WARNING, CheckOutcome.ERROR


def check(roots: Roots) -> dict[str, HostCheck]:
    return {one.name: one for one in checks.check_host(roots)}


def test_what_is_not_as_it_should_be_has_a_remedy_and_every_line_a_meaning(roots: Roots) -> None:
    for one in check(roots).values():
        assert one.name
        assert one.found
        assert one.meaning.endswith(".")
        assert bool(one.remedy) is (one.outcome is not OK)


def test_a_check_makes_no_directory(roots: Roots) -> None:
    found = check(roots)["state directory"]
    assert (found.outcome, found.found) == (OK, f"{roots.state}, not there yet")
    assert not roots.state.parent.exists()
    assert not roots.cache.exists()


@pytest.mark.parametrize(("mode", "outcome"), [(0o700, OK), (0o755, WARNING), (0o770, ERROR), (0o707, ERROR)])
def test_the_modes_of_directories_are_shown_with_how_to_mend_them(
    roots: Roots, mode: int, outcome: CheckOutcome
) -> None:
    private_directory(roots.run).chmod(mode)
    found = check(roots)["run directory"]
    assert found.outcome is outcome
    assert outcome is OK or f"chmod 700 {roots.run}" in found.remedy


def test_a_link_in_the_place_of_a_directory_is_an_error(roots: Roots, tmp_path: Path) -> None:
    roots.cache.symlink_to(tmp_path)
    assert check(roots)["cache directory"].outcome is ERROR


@pytest.mark.root
def test_another_users_directory_is_an_error_though_it_is_that_of_the_guests(roots: Roots) -> None:
    guests = private_directory(private_directory(roots.cache) / "guests")
    os.chown(guests, 65534, 65534)
    found = check(roots)["guests directory"]
    assert found.outcome is ERROR
    assert "belongs to user 65534" in found.remedy


@pytest.mark.root
def test_a_directory_that_this_user_cannot_make_is_an_error(roots: Roots) -> None:
    own = os.getresuid()
    os.setresuid(65534, 65534, 0)
    try:
        found = check(replace(roots, state=Path("/var/lib/virtcontainers-of-others/state")))["state directory"]
    finally:
        os.setresuid(*own)
    assert found.outcome is ERROR
    assert "/var/lib is not a directory that this user can write to" in found.meaning


def test_a_file_above_a_directory_is_an_error(roots: Roots, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = check(replace(roots, state=tmp_path / "file/state"))["state directory"]
    assert found.outcome is ERROR
    assert f"{tmp_path}/file is not a directory" in found.meaning


@pytest.mark.parametrize(("user", "outcome"), [(0, WARNING), (4711, ERROR)], ids=["root", "plain user"])
def test_missing_programs_are_named(
    roots: Roots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: int, outcome: CheckOutcome
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: user)
    found = check(roots)
    assert found["programs"].found == "no setsid, unshare, nsenter, setpriv"
    assert [found[name].outcome for name in ("programs", "mount namespaces")] == [ERROR, ERROR]
    assert found["user namespaces"].outcome is outcome, "a plain user has no pod without one"


@pytest.mark.root
def test_namespaces_are_really_made(roots: Roots) -> None:
    found = check(roots)
    assert found["mount namespaces"].outcome is OK
    assert found["user namespaces"].found.startswith("can be made; at most ")


@pytest.mark.parametrize(
    ("text", "shown", "outcome"),
    [
        ("0::/user.slice\n", "version 2", OK),
        ("4:memory:/\n3:cpu,cpuacct:/\n1:name=systemd:/\n", "version 1 (version 1: cpu, cpuacct, memory)", OK),
        ("8:pids:/\n0::/\n", "version 1 and 2 (version 1: pids)", OK),
        ("", "none", WARNING),
    ],
)
def test_the_version_of_control_groups_is_shown(
    roots: Roots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, shown: str, outcome: CheckOutcome
) -> None:
    (tmp_path / "cgroup").write_text(text, encoding="utf-8")
    monkeypatch.setattr(checks, "_OWN_GROUPS", tmp_path / "cgroup")
    found = check(roots)["control groups"]
    assert (found.found, found.outcome) == (shown, outcome)


@pytest.mark.parametrize(("text", "outcome"), [("[pod]\nstrict = true\n", OK), ("[pod]\nstrikt = true\n", ERROR)])
def test_the_configuration_file_is_shown(roots: Roots, tmp_path: Path, text: str, outcome: CheckOutcome) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(text, encoding="utf-8")
    found = check(replace(roots, environment={**roots.environment, CONFIG_VARIABLE: str(file)}))["configuration"]
    assert found.outcome is outcome
    assert str(file) in found.found + found.remedy
