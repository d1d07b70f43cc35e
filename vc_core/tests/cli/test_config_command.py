"""``virtc config show``: each default value, and where it comes from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import virtc

import vc_core as vc
from vc_core.store.roots import Roots
from vc_core.store.settings import CONFIG_VARIABLE


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a configuration file that is read."""
    path = tmp_path / "config.toml"
    path.write_text('# defaults\n[pod]\nmemory = 512\n\nhypervisor = "mock"\nagent = "noop"\n', encoding="utf-8")
    monkeypatch.setenv(CONFIG_VARIABLE, str(path))
    return path


def test_show_names_the_file_and_line_of_each_value_that_is_not_built_in(file: Path) -> None:
    rows = dict(line.split(maxsplit=1) for line in virtc("config", "show").stdout.splitlines())
    assert rows["pod.memory"].split() == ["512", f"{file}:3"]
    assert rows["pod.hypervisor"].split() == ["mock", f"{file}:5"]
    assert rows["pod.strict"].split() == ["false", "built-in"]


def test_show_names_the_variable_of_a_value_from_the_environment() -> None:
    values = {one["name"]: one for one in json.loads(virtc("config", "show", "--json").stdout)}
    assert values["directory.state"] == {
        "name": "directory.state",
        "value": str(Roots.from_environment().state),
        "origin": "environment VIRTCONTAINERS_ROOT",
    }
    assert values["pod.cpus"] == {"name": "pod.cpus", "value": 0, "origin": "built-in"}


def test_show_refuses_a_file_that_is_not_valid(file: Path) -> None:
    file.write_text("[pod]\nmemry = 5\n", encoding="utf-8")
    done = virtc("config", "show")
    assert done.stderr == f"virtc: {file}:2: pod.memry: there is no field 'memry'; did you mean 'memory'?\n"
    assert (done.stdout, done.returncode) == ("", 1)


def test_a_pod_is_made_with_the_defaults_of_the_file(file: Path) -> None:
    assert virtc("pod", "create", "--id", "p").stderr == ""
    config = vc.inspect_pod("p")
    assert (config.hypervisor_type, config.agent_type, config.vm_config.memory) == ("mock", "noop", 512)
    assert vc.status_pod("p").hypervisor == "mock"


def test_what_the_caller_chooses_wins(file: Path) -> None:
    vc.create_pod(vc.PodConfig(id="p", vm_config=vc.Resources(memory=64)))
    assert vc.inspect_pod("p").vm_config.memory == 64


def test_options_are_those_of_the_default_driver(file: Path) -> None:
    assert virtc("pod", "create", "--id", "p", "--hypervisor-option", "fail_start=true").stderr == ""
    assert vc.inspect_pod("p").hypervisor_config.options == {"fail_start": "true"}
