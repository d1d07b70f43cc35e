"""Whether a container of an engine writes to the directory that is its root."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vc_runtime import roots, spec, translate
from vc_runtime.faults import RuntimeFault
from vc_runtime.records import Record

Make = Callable[..., Path]

_WRITABLE = {"path": "rootfs", "readonly": False}


def chosen(folder: Path, sandbox: str = "") -> translate.Translated:
    config = spec.read(folder / "config.json", spec.Spec)
    root = translate.root_path(config, folder)
    (root / "bin").mkdir(exist_ok=True)
    record = Record(id="c1", bundle=str(folder), pod="none", container="c1", rootfs=str(root), sandbox=sandbox)
    return roots.choose(translate.translate(config, "c1", folder), config, record)


@pytest.fixture
def closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vc_core.host.closed._is_closed", lambda path: False)


def annotated(bundle: Make, value: str, **more: Any) -> Path:
    return bundle(annotations={roots.WRITABLE_ROOT: value}, **more)


@pytest.mark.usefixtures("closed")
def test_a_container_writes_to_a_directory_that_no_other_user_reaches(bundle: Make) -> None:
    made = chosen(bundle(root=_WRITABLE))
    assert (made.container.writable_root_fs, made.pod.writable_roots) == (True, True)


@pytest.mark.usefixtures("closed")
def test_a_read_only_root_is_not_written_to_but_the_vm_can_have_others_that_are(bundle: Make) -> None:
    made = chosen(bundle(root={"path": "rootfs", "readonly": True}))
    assert (made.container.writable_root_fs, made.pod.writable_roots) == (False, True)


@pytest.mark.usefixtures("opened")
def test_a_container_has_an_overlay_where_other_users_reach_its_root(bundle: Make) -> None:
    made = chosen(bundle(root=_WRITABLE))
    assert (made.container.writable_root_fs, made.pod.writable_roots) == (False, False)


@pytest.mark.usefixtures("closed")
def test_an_annotation_gives_a_container_an_overlay(bundle: Make) -> None:
    assert not chosen(annotated(bundle, "false", root=_WRITABLE)).container.writable_root_fs


@pytest.mark.usefixtures("opened")
def test_a_container_that_must_write_to_its_root_is_refused_where_it_cannot(bundle: Make) -> None:
    with pytest.raises(RuntimeFault, match=r"annotation io.* is true, but .* other users of this host can reach"):
        chosen(annotated(bundle, "true"))


def test_an_annotation_of_another_value_is_refused(bundle: Make) -> None:
    with pytest.raises(RuntimeFault, match="is 'yes'; give true or false"):
        chosen(annotated(bundle, "yes"))


@pytest.mark.usefixtures("closed")
def test_a_container_joins_a_vm_without_writable_roots_with_an_overlay_unless_it_must_write(bundle: Make) -> None:
    assert not chosen(bundle(root=_WRITABLE), "sandbox").container.writable_root_fs
    with pytest.raises(RuntimeFault, match="the VM of the sandbox sandbox was started without writable roots"):
        chosen(annotated(bundle, "true"), "sandbox")
