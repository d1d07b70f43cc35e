"""The templates of usual pods, from which pods of tests start as clones; a pytest plugin of this repository.

Pods that are of another kind boot, as those of other hypervisors do.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import vc_core as vc
from once import make_once


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Make templates for the usual pods of qemu, with and without a mount that they may write to, once for all workers.

    They stay in the host's cache.
    """
    make_once(tmp_path_factory, "templates", _make)


def _make(top: Path) -> None:
    (top / "rootfs").mkdir(exist_ok=True)
    (top / "rootfs/file").touch()
    for mounts in ([], [vc.Mount(str(top), "/mnt", read_only=False)]):
        container = vc.ContainerConfig(id="c1", root_fs=str(top), mounts=mounts)
        vc.create_template(vc.PodConfig(hypervisor_type="qemu", containers=[container]))
