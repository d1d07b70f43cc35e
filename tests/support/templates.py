"""The templates of usual pods, from which pods of tests start as clones; a pytest plugin of this repository.

Pods that are of another kind boot, as those of other hypervisors do.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import vc_core as vc
from once import make_once


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Make templates for the usual pods of qemu, once for all workers: plain, with a writable mount, with a network.

    They stay in the host's cache. A start that fails on a busy host may remove one; the next module has it again.
    """
    make_once(tmp_path_factory, "templates", _make, _are_there)


def _make(top: Path) -> None:
    (top / "rootfs").mkdir(exist_ok=True)
    (top / "rootfs/file").touch()
    usual = vc.PodConfig(hypervisor_type="qemu", containers=[vc.ContainerConfig(id="c1", root_fs=str(top))])
    writable = vc.Mount(str(top), "/mnt", read_only=False)
    pods = (
        usual,
        replace(usual, containers=[replace(usual.containers[0], mounts=[writable])]),
        replace(usual, network=vc.NetworkConfig(mode=vc.NetworkMode.USER)),
    )
    (top / "kinds").write_text(" ".join(vc.create_template(pod).kind for pod in pods), encoding="ascii")


def _are_there(top: Path) -> bool:
    kinds = (top / "kinds").read_text(encoding="ascii").split()
    return {*kinds} <= {one.kind for one in vc.list_templates()}
