"""The installer's script changes containerd's configuration, and nothing of what others wrote there."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1]

pytestmark = pytest.mark.needs("containerd")

CONFIG = 'version = 2\n[plugins."io.containerd.grpc.v1.cri"]\n  sandbox_image = "pause:1"\n'

HANDLER = '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.vc]'


class Place:
    """Where the script installs: a directory of the test."""

    def __init__(self, top: Path) -> None:
        self.top, self.config, self.restarts = top, top / "etc/config.toml", top / "restarts"
        self.config.parent.mkdir()
        (top / "installer").mkdir()
        for name in ("install.sh", "containerd.toml"):
            shutil.copy(FOLDER / name, top / "installer")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        (self.top / "restart").write_text(f"#!/bin/sh\necho x >>{self.restarts}\n", encoding="utf-8")
        (self.top / "restart").chmod(0o755)
        variables = {"CONTAINERD_CONFIG": str(self.config), "RESTART": str(self.top / "restart")}
        command = ["sh", str(self.top / "installer/install.sh"), *arguments]
        return subprocess.run(command, env=variables, capture_output=True, encoding="utf-8", timeout=60, check=False)

    def restarted(self) -> int:
        return len(self.restarts.read_text(encoding="utf-8").split()) if self.restarts.exists() else 0


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_the_runtime_is_added_once_and_containerd_is_started_again_once(place: Place) -> None:
    place.config.write_text(CONFIG, encoding="utf-8")
    for _ in range(2):
        assert place.run("configure").returncode == 0
    text = place.config.read_text(encoding="utf-8")
    assert text.startswith(CONFIG)
    assert text.count(HANDLER) == 1
    assert f'BinaryName = "{place.top}/venv/bin/vc-runtime"' in text
    assert place.restarted() == 1


def test_containerd_takes_the_configuration(place: Place) -> None:
    place.config.write_text(CONFIG, encoding="utf-8")
    place.run("configure")
    command = ["containerd", "--config", str(place.config), "config", "dump"]
    shown = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60, check=True).stdout
    assert HANDLER in shown.replace('."vc"', ".vc").replace("  ", "")
    assert 'sandbox_image = "pause:1"' in shown


RUNC = '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]'


def test_the_built_in_runtime_is_listed_too_because_containerd_forgets_it_otherwise(place: Place) -> None:
    place.config.write_text(CONFIG, encoding="utf-8")
    place.run("configure")
    assert place.config.read_text(encoding="utf-8").count(RUNC) == 1


def test_runtimes_that_an_administrator_lists_stay_as_they_are(place: Place) -> None:
    place.config.write_text(f"{CONFIG}{RUNC}\n  privileged_without_host_devices = true\n", encoding="utf-8")
    place.run("configure")
    text = place.config.read_text(encoding="utf-8")
    assert (text.count(RUNC), text.count(HANDLER)) == (1, 1)


def test_a_node_without_a_configuration_gets_that_of_containerd(place: Place) -> None:
    assert place.run("configure").returncode == 0
    text = place.config.read_text(encoding="utf-8")
    assert HANDLER in text
    assert "runtimes.runc]" in text


def test_remove_leaves_the_configuration_as_it_was(place: Place) -> None:
    place.config.write_text(CONFIG, encoding="utf-8")
    place.run("configure")
    assert place.run("remove").returncode == 0
    assert place.config.read_text(encoding="utf-8") == CONFIG
    assert [one.name for one in place.config.parent.iterdir()] == ["config.toml"]
    assert place.restarted() == 2


def test_a_runtime_of_that_name_that_an_administrator_wrote_stays(place: Place) -> None:
    own = f'{CONFIG}{HANDLER}\n  runtime_type = "io.containerd.runc.v2"\n'
    place.config.write_text(own, encoding="utf-8")
    done = place.run("configure")
    assert (done.returncode, place.config.read_text(encoding="utf-8"), place.restarted()) == (0, own, 0)
    assert "stays" in done.stdout


@pytest.mark.parametrize("text", ["", "version = 3\n", 'disabled_plugins = ["cri"]\n'])
def test_a_configuration_of_another_version_is_refused_with_what_to_do(place: Place, text: str) -> None:
    place.config.write_text(text, encoding="utf-8")
    done = place.run("configure")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "is not of version 2; add the runtime to it as docs/how-to/kubernetes.md describes" in done.stderr
    assert (place.config.read_text(encoding="utf-8"), place.restarted()) == (text, 0)


def test_a_configuration_that_containerd_refuses_does_not_take_the_place_of_the_old_one(place: Place) -> None:
    broken = "version = 2\n[plugins\n"
    place.config.write_text(broken, encoding="utf-8")
    done = place.run("configure")
    assert done.returncode == 1
    assert "containerd refuses" in done.stderr
    assert (place.config.read_text(encoding="utf-8"), place.restarted()) == (broken, 0)
