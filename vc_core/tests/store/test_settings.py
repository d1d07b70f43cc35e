"""The configuration files: which are read, what they may hold, and which are refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vc_core.errors import ConfigError
from vc_core.store import settings
from vc_core.store.settings import CONFIG_VARIABLE, Settings

STRICT, NOT_STRICT = "[pod]\nstrict = true\n", "[pod]\nstrict = false\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the path of a file that the variable of the environment names; it is not there."""
    return tmp_path / "settings.toml"


def read(file: Path, text: str) -> Settings:
    file.write_text(text, encoding="utf-8")
    return Settings.read({CONFIG_VARIABLE: str(file)})


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Return the file of the host and that of a user, neither of which is there."""
    monkeypatch.setattr(settings, "_SYSTEM", tmp_path / "etc")
    files = tmp_path / "etc/virtcontainers/config.toml", tmp_path / "home/virtcontainers/config.toml"
    for one in files:
        one.parent.mkdir(parents=True)
    return files


@pytest.mark.parametrize(
    ("text", "strict"), [("", False), ("# nothing\n", False), (STRICT, True), (NOT_STRICT, False), ("[pod]\n", False)]
)
def test_a_file_says_whether_pods_are_strict(file: Path, text: str, strict: bool) -> None:
    assert read(file, text) == Settings(strict, files=(file,))


def test_a_file_says_how_large_all_templates_may_be(file: Path) -> None:
    assert read(file, "[templates]\nsize = 100\n") == Settings(templates_size=100, files=(file,))


def test_without_files_nothing_is_set(two: tuple[Path, Path], tmp_path: Path) -> None:
    assert Settings.read({"XDG_CONFIG_HOME": str(tmp_path / "home")}) == Settings()


def test_root_reads_the_hosts_file_only(
    two: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    two[1].write_text(STRICT, encoding="utf-8")
    if os.getuid() == 0:
        two[0].write_text(NOT_STRICT, encoding="utf-8")
    assert not Settings.read({"XDG_CONFIG_HOME": str(tmp_path / "home")}).strict


def test_an_empty_variable_names_no_file(two: tuple[Path, Path], tmp_path: Path) -> None:
    assert Settings.read({CONFIG_VARIABLE: "", "XDG_CONFIG_HOME": str(tmp_path / "home")}) == Settings()


@pytest.mark.root
def test_of_a_plain_user_the_users_file_wins(
    two: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    system, own = two
    system.write_text(STRICT, encoding="utf-8")
    home = {"XDG_CONFIG_HOME": str(tmp_path / "home")}
    assert Settings.read(home) == Settings(True, files=(system,))
    own.write_text(NOT_STRICT, encoding="utf-8")
    os.chown(own, 65534, 65534)
    assert Settings.read(home) == Settings(False, files=(system, own))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stric = true", "has the unknown key 'stric'; it can have pod, templates"),
        ("[templates]\nsize = 0", "has templates.size = 0; give a whole number of MiB, at least 1"),
        ("[templates]\nsize = true", "has templates.size = True; give a whole number of MiB, at least 1"),
        ('[templates]\nsize = "2G"', "has templates.size = '2G'; give a whole number of MiB, at least 1"),
        ("[pod]\nstric = true", "has the unknown key 'pod.stric'; it can have pod.strict"),
        ("pod = true", "has pod = True; make it a table: [pod]"),
        ("[pod]\nstrict = 1", "has pod.strict = 1; give true or false"),
        ('[pod]\nstrict = "true"', "has pod.strict = 'true'; give true or false"),
        ("[pod", "is not TOML: "),
        (f"pod = {'[' * 60_000}", "is not TOML: "),
        (f"[pod]\nstrict = {'9' * 5_000}", "is not TOML: "),
    ],
)
def test_what_a_file_cannot_hold_is_refused_with_the_files_path(file: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(file, text)
    assert str(caught.value).startswith(f"configuration file {str(file)!r} {message}")
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_refused(file: Path) -> None:
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not TOML"):
        Settings.read({CONFIG_VARIABLE: str(file)})


def test_a_file_that_is_named_must_be_there(file: Path) -> None:
    with pytest.raises(ConfigError, match=f"'{file}', of {CONFIG_VARIABLE}, is not there"):
        Settings.read({CONFIG_VARIABLE: str(file)})


def test_a_file_that_is_named_by_a_relative_path_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"is 'settings\.toml'; give an absolute path"):
        Settings.read({CONFIG_VARIABLE: "settings.toml"})


def test_a_pipe_or_a_directory_in_its_place_is_refused_and_nobody_waits(file: Path) -> None:
    os.mkfifo(file)
    with pytest.raises(ConfigError, match="is not a regular file"):
        Settings.read({CONFIG_VARIABLE: str(file)})
    file.unlink()
    file.mkdir()
    with pytest.raises(ConfigError, match=r"is not a regular file|cannot be read"):
        Settings.read({CONFIG_VARIABLE: str(file)})


def test_a_file_that_others_can_write_to_is_refused(file: Path) -> None:
    file.touch()
    file.chmod(0o662)
    with pytest.raises(ConfigError, match=f"is writable by others; run: chmod 644 {file}"):
        Settings.read({CONFIG_VARIABLE: str(file)})


@pytest.mark.root
def test_another_users_file_is_refused(file: Path) -> None:
    file.touch()
    os.chown(file, 65534, 0)
    with pytest.raises(ConfigError, match=f"belongs to user 65534; run: chown 0 {file}"):
        Settings.read({CONFIG_VARIABLE: str(file)})
