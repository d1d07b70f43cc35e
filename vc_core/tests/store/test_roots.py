"""What the environment decides: where the roots of a plain user are, and which templates are used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vc_core.errors import ConfigError
from vc_core.store import roots
from vc_core.store.roots import CACHE_VARIABLE, ROOT_VARIABLE, TEMPLATES_VARIABLE, Roots


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be a plain user without XDG variables; return where logind would make the user's directory."""
    user = os.geteuid() or 4711
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(roots, "SESSIONS", tmp_path / "user")
    for name in (ROOT_VARIABLE, CACHE_VARIABLE, "XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "user").mkdir()
    return tmp_path / "user" / str(user)


def make(session: Path, mode: int) -> None:
    session.mkdir(mode=mode)
    session.chmod(mode)
    if os.getuid() == 0:
        os.chown(session, os.geteuid(), -1)


def test_a_plain_user_has_the_directories_of_the_xdg_specification(
    session: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    found = Roots.from_environment()
    names = ("XDG_STATE_HOME", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME")
    assert (found.state, found.run, found.cache) == tuple(tmp_path / name / "virtcontainers" for name in names)


@pytest.mark.parametrize("given", [None, "", "relative"])
def test_without_a_runtime_directory_that_of_the_users_session_is_taken(
    session: Path, monkeypatch: pytest.MonkeyPatch, given: str | None
) -> None:
    if given is not None:
        monkeypatch.setenv("XDG_RUNTIME_DIR", given)
    make(session, 0o700)
    assert Roots.from_environment().run == session / "virtcontainers"


def test_without_a_session_the_run_root_is_below_the_state_root(session: Path, tmp_path: Path) -> None:
    found = Roots.from_environment()
    assert found.state == tmp_path / "home/.local/state/virtcontainers"
    assert found.run == found.state / "run"


def test_a_session_directory_that_others_can_enter_is_not_taken(session: Path) -> None:
    make(session, 0o755)
    found = Roots.from_environment()
    assert found.run == found.state / "run"


@pytest.mark.root
def test_a_session_directory_of_another_user_is_not_taken(session: Path) -> None:
    make(session, 0o700)
    os.chown(session, 0, -1)
    found = Roots.from_environment()
    assert found.run == found.state / "run"


@pytest.mark.parametrize(("value", "use", "make"), [("", True, True), ("existing", True, False), ("off", False, False)])
def test_the_environment_decides_which_templates_are_used_and_whether_they_are_made(
    value: str, use: bool, make: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TEMPLATES_VARIABLE, value)
    roots = Roots.from_environment()
    assert (roots.use_templates, roots.make_templates) == (use, make)


@pytest.mark.parametrize("value", ["OFF", "0", "on", " off"])
def test_another_value_of_the_variable_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TEMPLATES_VARIABLE, value)
    with pytest.raises(
        ConfigError, match=f"^{TEMPLATES_VARIABLE} is '{value}'; give off or existing, or leave it empty$"
    ):
        _ = Roots.from_environment().use_templates
