"""The modules to load and their order, computed by the system's own kmod from a made-up tree."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from made_up_debian import KERNEL, kernel_files, write

from vc_core.errors import GuestError
from vc_guest_debian.modules import load_lists


@pytest.fixture
def root(tmp_path: Path, module_files: Mapping[str, bytes]) -> Path:
    write(tmp_path / "root", kernel_files(module_files))
    return tmp_path / "root"


def lists(root: Path, wanted: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    found = asyncio.run(load_lists(root, wanted, root.parent))
    assert all(path.is_file() for paths in found.values() for path in paths)
    return {name: [path.name.partition(".")[0] for path in paths] for name, paths in found.items()}


def names(root: Path, *wanted: str) -> list[str]:
    return lists(root, {"": wanted})[""]


def test_dependencies_of_a_module_are_loaded_before_it_and_only_once(root: Path) -> None:
    assert names(root, "virtio_pci", "virtio_rng") == ["virtio_ring", "virtio", "virtio_pci", "virtio-rng"]


def test_soft_dependencies_of_a_module_are_loaded_before_it(root: Path) -> None:
    assert names(root, "share") == ["virtio_ring", "virtio", "checksum", "share"]


def test_a_built_in_module_needs_no_file(root: Path) -> None:
    assert names(root, "within", "checksum") == ["checksum"]


def test_modules_that_are_packaged_below_usr_are_found(root: Path) -> None:
    (root / "usr").mkdir()
    (root / "lib").rename(root / "usr/lib")
    assert names(root, "virtio") == ["virtio_ring", "virtio"]


def test_a_list_for_later_omits_what_is_loaded_at_boot(root: Path) -> None:
    assert lists(root, {"": ["virtio"], "shares": ["share"], "nothing": []}) == {
        **{"": ["virtio_ring", "virtio"], "shares": ["checksum", "share"], "nothing": []}
    }


def test_a_module_that_the_kernel_does_not_have_is_named(root: Path) -> None:
    with pytest.raises(GuestError, match=rf"^the kernel {KERNEL} has no module 'nonesuch'$"):
        names(root, "virtio", "nonesuch")


def test_a_name_that_cannot_be_a_module_is_never_passed_to_a_tool(root: Path) -> None:
    with pytest.raises(GuestError, match="'--config=x' is not the name of a kernel module"):
        names(root, "--config=x")
    with pytest.raises(GuestError, match=r"'\.\./x' is not the name of a list of kernel modules"):
        lists(root, {"../x": ["virtio"]})


def test_a_package_without_modules_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    with pytest.raises(GuestError, match="kernel_package"):
        names(tmp_path / "root", "virtio")
