"""The root of an image is opened by its digest; nothing else below the state root is shown to a guest."""

from __future__ import annotations

from pathlib import Path

import pytest

from vc_core.config.container import Cmd, ContainerConfig
from vc_core.config.image import ImageReference
from vc_core.errors import ConfigError
from vc_core.host import sources
from vc_core.host.paths import Rules
from vc_core.store.images import ImageRecord, Images
from vc_core.store.roots import Roots

DIGEST = "sha256:" + "12" * 32


@pytest.fixture
def root_fs(roots: Roots) -> Path:
    """Return the root of an image that has a directory named as that of a bundle."""
    images = Images(roots)
    with images.making("image") as making:
        (making / "rootfs/rootfs/bin").mkdir(parents=True)
        record = ImageRecord(digest=DIGEST, size=1, pulled_at=1.0)
        images.publish(making / "rootfs", record, ImageReference.parse("app"))
    return images.root(DIGEST)


def opened(roots: Roots, **fields: str) -> Path:
    config = ContainerConfig(id="c", cmd=Cmd(args=["x"]), **fields)  # type: ignore[arg-type] # paths and names
    one = sources.open_container(config, Rules(roots))
    try:
        return one.root.path
    finally:
        one.close()


def test_the_root_of_a_container_is_that_of_its_image_and_no_directory_in_it(roots: Roots, root_fs: Path) -> None:
    assert opened(roots, image=f"app@{DIGEST}") == root_fs.resolve()


@pytest.mark.parametrize("where", ["", "..", "rootfs", "../../names.json"])
def test_a_path_below_the_state_root_is_refused_as_ever(where: str, roots: Roots, root_fs: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds or lies in '.*state', which is never shown to a guest"):
        opened(roots, root_fs=str(root_fs / where))


@pytest.mark.parametrize("image", ["app", f"app@sha256:{'0' * 64}", "sha256:121212121212"])
def test_an_image_without_its_whole_digest_or_that_is_gone_is_not_opened(
    image: str, roots: Roots, root_fs: Path
) -> None:
    with pytest.raises(ConfigError, match="is not on this host any more; 'virtc image pull' fetches it"):
        opened(roots, image=image)


def test_an_image_without_files_is_refused(roots: Roots, root_fs: Path) -> None:
    (root_fs / "rootfs/bin").rmdir()
    (root_fs / "rootfs").rmdir()
    with pytest.raises(ConfigError, match=r"is empty: '.*' has no files"):
        opened(roots, image=f"app@{DIGEST}")
