"""The manifests are valid, and agree with each other, with vc-runtime, and with the page that describes them."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import yaml

from vc_runtime import translate

FOLDER = Path(__file__).parents[1]
ROOT = FOLDER.parents[1]
PAGE = ROOT / "docs/how-to/kubernetes.md"


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8")))


@pytest.fixture
def runtime_class() -> Any:
    (found,) = documents("runtime-class.yaml")
    return found


@pytest.fixture
def installer() -> Any:
    (found,) = documents("installer.yaml")
    return found


@pytest.fixture
def runtimes() -> Any:
    config = tomllib.loads((FOLDER / "containerd.toml").read_text(encoding="utf-8"))
    return config["plugins"]["io.containerd.grpc.v1.cri"]["containerd"]["runtimes"]


def mib(quantity: str) -> int:
    match = re.fullmatch(r"(\d+)Mi", quantity)
    assert match, f"{quantity} is not in MiB"
    return int(match[1])


def test_the_kustomization_names_files_that_exist_and_all_manifests() -> None:
    (found,) = documents("kustomization.yaml")
    (made,) = found["configMapGenerator"]
    assert all((FOLDER / name).is_file() for name in [*found["resources"], *made["files"]])
    assert {*found["resources"], "kustomization.yaml"} == {path.name for path in FOLDER.glob("*.yaml")}


def test_the_class_names_the_runtime_of_containerds_configuration(runtime_class: Any, runtimes: Any) -> None:
    assert (runtime_class["apiVersion"], runtime_class["kind"]) == ("node.k8s.io/v1", "RuntimeClass")
    assert list(runtimes) == [runtime_class["handler"]]


def test_containerd_calls_the_command_of_vc_runtime_where_the_installer_puts_it(installer: Any, runtimes: Any) -> None:
    project = tomllib.loads((ROOT / "runtimes/oci/pyproject.toml").read_text(encoding="utf-8"))["project"]
    (command,) = project["scripts"]
    (volume,) = (one["hostPath"]["path"] for one in spec_of(installer)["volumes"] if "hostPath" in one)
    (runtime,) = runtimes.values()
    assert runtime["runtime_type"] == "io.containerd.runc.v2"
    assert runtime["options"]["BinaryName"] == f"{Path(volume).parent}/venv/bin/{command}"


def test_containerd_passes_the_annotations_on_that_choose_the_size_of_a_vm(runtimes: Any) -> None:
    (runtime,) = runtimes.values()
    for name in (translate.MEMORY, translate.VCPUS):
        assert any(fnmatchcase(name, pattern) for pattern in runtime["pod_annotations"])


def test_the_overhead_is_what_the_code_adds_to_a_vm_and_what_the_page_says_of_the_node(runtime_class: Any) -> None:
    overhead = mib(runtime_class["overhead"]["podFixed"]["memory"])
    page = PAGE.read_text(encoding="utf-8")
    found = re.search(r"(\d+) MiB in the guest.*?(\d+) MiB on the node", page, re.DOTALL)
    assert found, "the page has no figures"
    assert int(found[1]) == translate.OVERHEAD
    assert int(found[1]) + int(found[2]) == overhead
    assert f"memory: {overhead}Mi" in page


def test_pods_of_the_class_go_to_the_nodes_on_which_the_installer_runs(runtime_class: Any, installer: Any) -> None:
    (label,) = spec_of(installer)["nodeSelector"].items()
    assert runtime_class["scheduling"]["nodeSelector"].items() == {label}
    assert f"kubectl label node NODE {label[0]}={label[1]}" in PAGE.read_text(encoding="utf-8")


def test_the_installer_reads_the_files_of_the_kustomization_and_can_change_the_node(installer: Any) -> None:
    (generated,) = documents("kustomization.yaml")[0]["configMapGenerator"]
    spec = spec_of(installer)
    assert (installer["kind"], installer["metadata"]["namespace"]) == ("DaemonSet", generated["namespace"])
    assert [one["configMap"]["name"] for one in spec["volumes"] if "configMap" in one] == [generated["name"]]
    (container,) = spec["containers"]
    assert container["securityContext"] == {"privileged": True}
    assert spec["hostPID"] is True
    assert spec["automountServiceAccountToken"] is False
    mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    assert mounts.keys() == {one["name"] for one in spec["volumes"]}
    script = container["command"][-1]
    assert f"{mounts['files']}/* {mounts['place']}/" in script
    assert f"{mounts['place']}/install.sh" in script


def spec_of(installer: Any) -> Any:
    """Return what the pods of the installer consist of."""
    selector, template = installer["spec"]["selector"], installer["spec"]["template"]
    assert selector["matchLabels"].items() <= template["metadata"]["labels"].items()
    return template["spec"]
