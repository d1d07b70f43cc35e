"""Pods and containers that are created of an image keep it from the first look at it on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import vc_core as vc
from vc_core.config.image import ImageReference
from vc_core.engine.ledger import Ledger
from vc_core.errors import StateError
from vc_core.store.images import ImageRecord, Images
from vc_core.store.roots import Roots
from vc_core.store.store import Store

DIGEST = "sha256:" + "12" * 32


@pytest.fixture
def image(roots: Roots) -> vc.ContainerConfig:
    """Return a container of an image that is on this host."""
    images = Images(roots)
    with images.making("image") as making:
        (making / "rootfs/bin").mkdir(parents=True)
        record = ImageRecord(digest=DIGEST, size=1, pulled_at=1.0, cmd=("own",))
        images.publish(making / "rootfs", record, ImageReference.parse("app"))
    return vc.ContainerConfig(id="of-image", image="app")


def removing_before(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> list[str]:
    """Let somebody remove the image right before a method of a class; return the refusals."""
    refused: list[str] = []
    method: Callable[..., object] = getattr(owner, name)

    def wrapped(*arguments: object) -> object:
        with pytest.raises(StateError) as raised:
            vc.delete_image("app")
        refused.append(str(raised.value))
        return method(*arguments)

    monkeypatch.setattr(owner, name, wrapped)
    return refused


def test_an_image_is_not_removed_while_its_pod_is_written(
    image: vc.ContainerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = removing_before(monkeypatch, Store, "create")
    vc.create_pod(vc.PodConfig(hypervisor_type="mock", agent_type="noop", containers=[image]))
    assert len(refused) == 1
    assert "is used by a pod that is being created" in refused[0]


def test_an_image_is_not_removed_while_its_container_is_added(
    image: vc.ContainerConfig, mock_config: Callable[..., vc.PodConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = vc.create_pod(mock_config())
    refused = removing_before(monkeypatch, Ledger, "add_container")
    pod.create_container(image)
    assert len(refused) == 1
    assert vc.status_image("app").pods == (pod.id,)


def test_a_creation_that_fails_gives_the_image_free(image: vc.ContainerConfig) -> None:
    with pytest.raises(vc.DriverError):
        vc.create_pod(vc.PodConfig(hypervisor_type="none-such", agent_type="noop", containers=[image]))
    vc.delete_image("app")
    assert vc.list_images() == []
