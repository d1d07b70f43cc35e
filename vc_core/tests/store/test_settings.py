"""The configuration files: which are read, what they may hold, and which are refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vc_core.config.pod import PodConfig, Resources
from vc_core.errors import ConfigError
from vc_core.store import settings
from vc_core.store.settings import CONFIG_VARIABLE, PodDefaults, Settings, SettingsFiles, TemplateLimits, read_settings

STRICT, NOT_STRICT = "[pod]\nstrict = true\n", "[pod]\nstrict = false\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the path of a file that the variable of the environment names; it is not there."""
    return tmp_path / "settings.toml"


def read(file: Path, text: str) -> Settings:
    file.write_text(text, encoding="utf-8")
    return read_settings({CONFIG_VARIABLE: str(file)})


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
    assert read(file, text) == Settings(pod=PodDefaults(strict=strict))


def test_a_file_says_how_large_all_templates_may_be(file: Path) -> None:
    assert read(file, "[templates]\nsize = 100\n") == Settings(templates=TemplateLimits(size=100))


def test_without_files_nothing_is_set(two: tuple[Path, Path], tmp_path: Path) -> None:
    assert read_settings({"XDG_CONFIG_HOME": str(tmp_path / "home")}) == Settings()


def test_root_reads_the_hosts_file_only(
    two: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    two[1].write_text(STRICT, encoding="utf-8")
    if os.getuid() == 0:
        two[0].write_text(NOT_STRICT, encoding="utf-8")
    assert not read_settings({"XDG_CONFIG_HOME": str(tmp_path / "home")}).pod.strict


def test_an_empty_variable_names_no_file(two: tuple[Path, Path], tmp_path: Path) -> None:
    assert read_settings({CONFIG_VARIABLE: "", "XDG_CONFIG_HOME": str(tmp_path / "home")}) == Settings()


@pytest.mark.root
def test_of_a_plain_user_the_users_file_wins(
    two: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    system, own = two
    system.write_text(f"{STRICT}memory = 7\n", encoding="utf-8")
    home = {"XDG_CONFIG_HOME": str(tmp_path / "home")}
    assert read_settings(home) == Settings(pod=PodDefaults(strict=True, memory=7))
    own.write_text(NOT_STRICT, encoding="utf-8")
    os.chown(own, 65534, 65534)
    assert read_settings(home) == Settings(pod=PodDefaults(strict=False, memory=7))
    found = SettingsFiles.read(home)
    assert [one.name for one in found.documents] == [str(system), str(own)]
    assert found.origin("pod", "strict") == f"{own}:2"
    assert found.origin("pod", "memory") == f"{system}:3"
    assert found.origin("pod", "agent") == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stric = true", "1: stric: there is no field 'stric'; it can be pod, templates"),
        ("[templates]\nsize = 0", "2: templates.size: size is 0; give a whole number from 1 to 2147483647"),
        ("[templates]\nsize = true", "2: templates.size: size is True; give a whole number from 1 to"),
        ('[templates]\nsize = "2G"', "2: templates.size: size is '2G'; give a whole number from 1 to"),
        ("[pod]\nstric = true", "2: pod.stric: there is no field 'stric'; did you mean 'strict'?"),
        ("pod = true", "1: pod: it is True; give a mapping with hypervisor, agent, cpus, memory, strict"),
        ("[pod]\nstrict = 1", "2: pod.strict: strict is 1; give true or false"),
        ('[pod]\n\nstrict = "true"', "3: pod.strict: strict is 'true'; give true or false"),
        ("[pod]\nmemory = -1", "2: pod.memory: memory is -1; give a whole number from 0 to 2147483647"),
        ("[pod", "1: the file is not TOML: "),
        (f"pod = {'[' * 60_000}", " the file has too many lists or mappings in each other"),
        (f"[pod]\nstrict = {'9' * 5_000}", "1: the file is not TOML: "),
    ],
)
def test_what_a_file_cannot_hold_is_refused_with_the_files_path(file: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(file, text)
    assert str(caught.value).startswith(f"{file}:{message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("named", [True, False])
def test_a_pod_gets_the_defaults_of_the_file_where_its_caller_chose_nothing(file: Path, named: bool) -> None:
    text = '[pod]\nhypervisor = "mock"\nagent = "noop"\nmemory = 512\ncpus = 3\n'
    given = PodConfig(hypervisor_type="uml", agent_type="sshd", vm_config=Resources(memory=64, vcpus=1))
    completed = read(file, text).pod.complete(given if named else PodConfig())
    if named:
        assert completed == given
    else:
        assert (completed.hypervisor_type, completed.agent_type) == ("mock", "noop")
        assert completed.vm_config == Resources(memory=512, vcpus=3)


def test_without_a_file_a_pod_gets_the_built_in_drivers() -> None:
    completed = PodDefaults().complete(PodConfig())
    assert (completed.hypervisor_type, completed.agent_type) == ("qemu", "hyperstart")


def test_bytes_that_are_no_text_are_refused(file: Path) -> None:
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        read_settings({CONFIG_VARIABLE: str(file)})


def test_a_file_that_is_named_must_be_there(file: Path) -> None:
    with pytest.raises(ConfigError, match=f"'{file}', of {CONFIG_VARIABLE}, is not there"):
        read_settings({CONFIG_VARIABLE: str(file)})


def test_a_file_that_is_named_by_a_relative_path_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"is 'settings\.toml'; give an absolute path"):
        read_settings({CONFIG_VARIABLE: "settings.toml"})


def test_a_pipe_or_a_directory_in_its_place_is_refused_and_nobody_waits(file: Path) -> None:
    os.mkfifo(file)
    with pytest.raises(ConfigError, match="is not a regular file"):
        read_settings({CONFIG_VARIABLE: str(file)})
    file.unlink()
    file.mkdir()
    with pytest.raises(ConfigError, match=r"is not a regular file|cannot be read"):
        read_settings({CONFIG_VARIABLE: str(file)})


def test_a_file_that_others_can_write_to_is_refused(file: Path) -> None:
    file.touch()
    file.chmod(0o662)
    with pytest.raises(ConfigError, match=f"is writable by others; run: chmod 644 {file}"):
        read_settings({CONFIG_VARIABLE: str(file)})


@pytest.mark.root
def test_another_users_file_is_refused(file: Path) -> None:
    file.touch()
    os.chown(file, 65534, 0)
    with pytest.raises(ConfigError, match=f"belongs to user 65534; run: chown 0 {file}"):
        read_settings({CONFIG_VARIABLE: str(file)})
