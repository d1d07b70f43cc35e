"""The store of images: whole or not there, never taken from a pod, and rid of what killed processes left."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from vc_core.config.container import Cmd, ContainerConfig
from vc_core.config.image import ImageReference
from vc_core.config.pod import PodConfig
from vc_core.errors import BusyError, ImageError, ImageNotFoundError, StateError, StorageError
from vc_core.store.images import ImageRecord, Images
from vc_core.store.records import ContainerRecord, PodRecord
from vc_core.store.roots import Roots
from vc_core.store.store import Store

ONE, TWO = (f"sha256:{digit * 64}" for digit in "12")
APP = ImageReference.parse("app")


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    return Roots(tmp_path / "state", tmp_path / "run", tmp_path / "cache")


@pytest.fixture
def images(roots: Roots) -> Images:
    return Images(roots)


def add(images: Images, digest: str, name: ImageReference | None = APP, index: str = "") -> None:
    """Add an image with one file, in a directory that its owner cannot write to."""
    with images.making(f"image {digest}") as making:
        closed = making / "rootfs/closed"
        closed.mkdir(parents=True)
        (closed / "file").write_text(digest, encoding="ascii")
        closed.chmod(0o555)
        images.publish(making / "rootfs", ImageRecord(digest=digest, index=index, size=1, pulled_at=1.0), name)


def create_pod(roots: Roots, pod_id: str, image: str) -> None:
    container = ContainerConfig(id="c", image=image, cmd=Cmd(args=["x"]))
    record = PodRecord(
        id=pod_id, hypervisor="h", agent="a", supervised=True, created_at=1.0, containers={"c": ContainerRecord()}
    )
    store = Store(roots)
    with store.locked(pod_id):
        store.create(PodConfig(id=pod_id, containers=[container]), record)


def digests(images: Images) -> list[str]:
    return sorted(one.digest for one in images.all())


def entries(roots: Roots) -> list[str]:
    """Return what there is beside images, names and their lock."""
    names = {path.name for path in (roots.state / "images").iterdir()} - {".lock", "names.json"}
    return sorted(name for name in names if not name.startswith("sha256-"))


def test_an_image_is_found_by_name_by_digest_by_its_beginning_and_by_the_digest_of_its_index(images: Images) -> None:
    add(images, ONE, index=TWO)
    wanted = ["app", f"app@{ONE}", f"other/name@{ONE}", ONE, ONE[:20], f"app@{TWO}"]
    assert [images.find(ImageReference.parse(one)).digest for one in wanted] == [ONE] * len(wanted)
    assert images.find(APP).references == (str(APP),)
    assert (Path(images.find(APP).root_fs) / "closed/file").read_text(encoding="ascii") == ONE


@pytest.mark.parametrize("wanted", ["other", "app:2", f"app@{TWO}", TWO])
def test_an_image_that_is_not_there_is_an_error_that_names_the_remedy(images: Images, wanted: str) -> None:
    add(images, ONE)
    with pytest.raises(ImageNotFoundError, match=r"is not on this host; .*'virtc image pull' fetches it"):
        images.find(ImageReference.parse(wanted))


def test_a_beginning_that_two_digests_have_is_refused(images: Images) -> None:
    add(images, ONE)
    add(images, ONE[:-1] + "2", None)
    with pytest.raises(ImageError, match=f"2 images have a digest that begins with '{ONE[:19]}'"):
        images.find(ImageReference.parse(ONE[:19]))


def test_a_name_that_is_given_to_another_image_leaves_the_former_one_without(images: Images) -> None:
    add(images, ONE)
    add(images, TWO)
    assert {one.digest: one.references for one in images.all()} == {ONE: (), TWO: (str(APP),)}
    assert [one.digest for one in images.prune(every=False, dry_run=True)] == [ONE]
    assert [one.digest for one in images.prune(every=False, dry_run=False)] == [ONE]
    assert digests(images) == [TWO]


def test_the_last_name_of_an_image_takes_the_image_with_it(images: Images, roots: Roots) -> None:
    add(images, ONE)
    images.name(ImageReference.parse("second"), ONE)
    images.remove(APP)
    assert images.find(ImageReference.parse("second")).references == ("docker.io/library/second:latest",)
    images.remove(ImageReference.parse("second"))
    assert (digests(images), entries(roots)) == ([], [])
    with pytest.raises(ImageNotFoundError):
        images.remove(APP)


def test_a_digest_takes_the_image_with_all_its_names(images: Images) -> None:
    add(images, ONE)
    images.name(ImageReference.parse("second"), ONE)
    images.remove(ImageReference.parse(ONE))
    assert digests(images) == []
    with pytest.raises(ImageNotFoundError):
        images.find(ImageReference.parse("second"))


def test_an_image_that_a_pod_has_is_neither_removed_nor_pruned(images: Images, roots: Roots) -> None:
    add(images, ONE)
    create_pod(roots, "p1", f"app@{ONE}")
    assert images.find(APP).pods == ("p1",)
    with pytest.raises(StateError, match=r"image '.*app:latest' is used by pod 'p1'; delete the pod first"):
        images.remove(APP)
    assert images.prune(every=True, dry_run=False) == []
    assert images.find(APP).digest == ONE


def test_a_broken_or_newer_configuration_of_a_pod_counts_as_well(images: Images, roots: Roots) -> None:
    add(images, ONE)
    create_pod(roots, "p1", f"app@{ONE}")
    config = roots.pod_state_dir("p1") / "config.json"
    config.write_bytes(b'{"schema": 99, "pictures": "' + ONE.encode())
    with pytest.raises(StateError, match="is used by pod 'p1'"):
        images.remove(APP)


def test_a_configuration_that_cannot_be_read_keeps_every_image(images: Images, roots: Roots) -> None:
    add(images, ONE)
    create_pod(roots, "p1", f"app@{TWO}")
    config = roots.pod_state_dir("p1") / "config.json"
    config.unlink()
    config.mkdir()
    with pytest.raises(StorageError, match="cannot be read"):
        images.remove(APP)
    config.rmdir()
    images.remove(APP)


def test_an_image_of_a_pod_that_is_being_created_is_not_removed(images: Images) -> None:
    add(images, ONE)
    with images.lease(APP) as leased:
        assert leased.digest == ONE
        with pytest.raises(StateError, match="is used by a pod that is being created; try again"):
            images.remove(APP)
        assert images.prune(every=True, dry_run=False) == []
        with images.lease(ImageReference.parse(ONE)):  # several pods at once
            pass
    images.remove(APP)


LEASE = """\
import sys
from vc_core.config.image import ImageReference
from vc_core.store.images import Images
from vc_core.store.roots import Roots
with Images(Roots.from_environment()).lease(ImageReference.parse("app")):
    print("leased", flush=True)
    sys.stdin.read()
"""


def test_a_creator_that_is_killed_leaves_no_lease(images: Images, roots: Roots) -> None:
    add(images, ONE)
    environment = {**os.environ, "VIRTCONTAINERS_ROOT": str(roots.state.parent)}
    with subprocess.Popen(
        [sys.executable, "-c", LEASE], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as creator:
        assert creator.stdout is not None
        assert creator.stdout.readline() == b"leased\n"
        with pytest.raises(StateError):
            images.remove(APP)
        creator.kill()
    images.remove(APP)


def test_what_was_made_half_is_no_image_and_is_removed_by_the_next_maker(images: Images, roots: Roots) -> None:
    add(images, ONE)
    with suppress(ZeroDivisionError), images.making("image two") as making:
        (making / "rootfs").mkdir()
        raise ZeroDivisionError
    assert entries(roots) == []
    for name in (".making-killed", ".removed-killed"):
        closed = roots.state / "images" / name / "closed"
        (closed / "inner").mkdir(parents=True)
        closed.chmod(0o500)
    (roots.state / "images/.lock-killed").touch()
    assert digests(images) == [ONE]
    images.prune(every=False, dry_run=True)
    assert entries(roots) != []
    images.prune(every=False, dry_run=False)
    assert entries(roots) == []


def test_what_another_process_makes_is_neither_swept_nor_made_twice(images: Images) -> None:
    with images.making("image one") as making:
        (making / "part").touch()
        images.prune(every=True, dry_run=False)
        with pytest.raises(BusyError), images.making("image one"):
            pass
        with images.making("image two"):
            pass
        assert (making / "part").exists()


def test_an_image_that_is_there_already_is_kept_as_it_is(images: Images) -> None:
    add(images, ONE)
    before = Path(images.find(APP).root_fs).stat()
    add(images, ONE, ImageReference.parse("second"))
    assert os.path.samestat(before, Path(images.find(APP).root_fs).stat())
    assert len(images.find(APP).references) == 2


def test_a_root_that_is_a_link_is_refused(images: Images, roots: Roots, tmp_path: Path) -> None:
    record = ImageRecord(digest=ONE, size=1, pulled_at=1.0)
    with images.making("image") as making:
        (making / "rootfs").symlink_to(tmp_path)
        with pytest.raises(ImageError, match="has a root that is no directory"):
            images.publish(making / "rootfs", record, APP)
    assert (digests(images), entries(roots)) == ([], [])


@pytest.fixture
def broken(images: Images) -> Path:
    add(images, ONE)
    add(images, TWO, ImageReference.parse("second"))
    record = Path(images.find(APP).root_fs).parent / "image.json"
    record.write_text("{", encoding="ascii")
    return record


def test_a_broken_record_breaks_its_own_image_only(images: Images, broken: Path) -> None:
    assert digests(images) == [TWO]
    with pytest.raises(StorageError, match=f"{str(broken)!r} is broken"):
        images.find(APP)
    images.remove(APP)
    assert not broken.exists()
