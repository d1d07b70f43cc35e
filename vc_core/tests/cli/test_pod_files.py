"""Pods that a file describes, on the command line: --file, inspect and schema."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from commands import MOCK, virtc

import vc_core as vc

POD = """\
id: shop
hypervisor_type: mock
agent_type: noop
vm_config: {memory: 256}
containers:
  - {id: web, cmd: [httpd]}
  - {id: db, cmd: [postgres]}
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "pod.yaml"
    path.write_text(POD, encoding="utf-8")
    return str(path)


def test_create_makes_the_pod_of_a_file_with_all_of_its_containers(file: str) -> None:
    done = virtc("pod", "create", "-f", file)
    assert (done.stdout, done.stderr, done.returncode) == ("Created pod shop\n", "", 0)
    assert [one.id for one in vc.status_pod("shop").containers] == ["web", "db"]


def test_an_id_may_be_given_beside_a_file(file: str) -> None:
    assert virtc("pod", "create", "-f", file, "--id", "other").stdout == "Created pod other\n"


def test_a_file_is_read_from_the_standard_input() -> None:
    program = str(Path(sys.executable).with_name("virtc"))
    done = subprocess.run([program, "pod", "create", "-f", "-"], input=POD, capture_output=True, encoding="utf-8")
    assert (done.stdout, done.stderr) == ("Created pod shop\n", "")
    done = subprocess.run(
        [program, "pod", "create", "-f", "-"], input="id: a\nidd: b\n", capture_output=True, encoding="utf-8"
    )
    assert done.stderr.startswith("virtc: standard input:2: idd: there is no field 'idd'; did you mean 'id'?")
    assert done.returncode == 1


def test_a_file_with_absolute_paths_can_be_piped_in_a_directory_that_was_removed() -> None:
    program = str(Path(sys.executable).with_name("virtc"))
    line = f"mkdir gone && cd gone && rmdir ../gone && exec {program} pod create -f -"
    done = subprocess.run(["sh", "-c", line], input=POD, capture_output=True, encoding="utf-8")
    assert (done.stdout, done.stderr) == ("Created pod shop\n", "")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--memory", "5"], "--file and --memory both describe the pod"),
        (["-e", "A=b"], "--file and --env both describe the pod"),
        ([*MOCK], "--file and --agent both describe the pod"),
        (["--", "ls"], "--file and a command both describe the pod"),
    ],
)
def test_what_else_describes_a_pod_is_refused_beside_a_file(file: str, more: list[str], message: str) -> None:
    done = virtc("pod", "create", "-f", file, *more)
    assert message in done.stderr
    assert done.returncode == 2
    assert vc.list_pods() == []


def test_an_error_about_a_driver_that_is_not_installed_names_the_line_too(file: str) -> None:
    Path(file).write_text(POD.replace("type: mock", "type: mok"), encoding="utf-8")
    done = virtc("pod", "create", "-f", file)
    assert done.stderr.startswith(f"virtc: {file}:2: hypervisor_type: there is no hypervisor driver 'mok' (installed: ")
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            "hypervisor_config:\n  options:\n    fail_strt: x\n",
            "10: hypervisor_config.options.fail_strt: hypervisor mock has no option 'fail_strt' (did you",
        ),
        ("agent_config: {a: 1}\n", "8: agent_config.a: agent noop has no option 'a'; it has none"),
    ],
)
def test_an_error_about_a_drivers_option_names_the_line_too(file: str, more: str, message: str) -> None:
    Path(file).write_text(POD + more, encoding="utf-8")
    done = virtc("pod", "create", "-f", file)
    assert done.stderr.startswith(f"virtc: {file}:{message}")
    assert vc.list_pods() == []


def test_the_format_of_a_file_needs_a_file() -> None:
    assert "--file as well" in virtc("pod", "create", "--file-format", "json").stderr


def test_a_file_without_containers_cannot_be_run_in_the_foreground(tmp_path: Path) -> None:
    (tmp_path / "pod.json").write_text('{"hypervisor_type": "mock", "agent_type": "noop"}', encoding="utf-8")
    done = virtc("pod", "run", "-i", "-f", str(tmp_path / "pod.json"))
    assert "-i needs a container, and the pod file has none" in done.stderr
    assert vc.list_pods() == []


@pytest.mark.parametrize("form", ["yaml", "toml", "json"])
def test_inspect_prints_a_file_that_recreates_the_pod(file: str, form: str, tmp_path: Path) -> None:
    virtc("pod", "create", "-f", file)
    virtc("container", "create", "shop", "--id", "late", "--rootfs", "/srv", "--", "ls")
    vc.delete_container("shop", "db")
    config = vc.inspect_pod("shop")
    assert [one.id for one in config.containers] == ["web", "late"]
    again = tmp_path / "again"
    again.write_text(virtc("pod", "inspect", "shop", "--format", form).stdout, encoding="utf-8")
    vc.delete_pod("shop")
    assert virtc("pod", "create", "-f", str(again)).stdout == "Created pod shop\n"
    assert vc.Pod("shop").inspect() == config


def test_inspect_prints_yaml_unless_another_format_is_chosen(file: str) -> None:
    virtc("pod", "create", "-f", file)
    assert virtc("pod", "inspect", "shop").stdout.startswith("id: shop\nvm_config:\n  memory: 256\n")
    assert json.loads(virtc("pod", "inspect", "shop", "--json").stdout)["id"] == "shop"
    assert "choose one" in virtc("pod", "inspect", "shop", "--json", "--format", "toml").stderr
    assert virtc("pod", "inspect", "nobody").returncode == 1


def test_schema_prints_the_published_schema() -> None:
    published = Path(__file__).parents[3] / "docs/reference/pod.schema.json"
    assert virtc("pod", "schema").stdout == published.read_text(encoding="utf-8")
