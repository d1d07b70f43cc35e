"""``virtc image`` and ``--image`` without a registry and without any VM; tests/integration/test_images.py has those."""

from __future__ import annotations

import json

import pytest
from commands import MOCK, virtc

from vc_core.config.image import ImageReference
from vc_core.store.images import ImageRecord, Images
from vc_core.store.roots import Roots
from vc_core.store.store import Store

DIGEST = "sha256:" + "12" * 32
NAME = "docker.io/team/app:1"


@pytest.fixture
def digest(roots: Roots) -> str:
    """An image in the store with a name, as a pull leaves it."""
    images = Images(roots)
    with images.making("image") as making:
        (making / "rootfs/bin").mkdir(parents=True)
        record = ImageRecord(
            digest=DIGEST, size=3 * 2**20, pulled_at=1.0, entrypoint=("entry",), cmd=("own",), user="bob"
        )
        images.publish(making / "rootfs", record, ImageReference.parse(NAME))
    return DIGEST


def created(roots: Roots, *options: str) -> dict[str, object]:
    """Return what is stored of the container of a new pod."""
    done = virtc("pod", "create", "--id", "p", *MOCK, *options)
    assert done.returncode == 0, done.stderr
    [container] = Store(roots).read_config("p").containers
    return {"image": container.image, "args": list(container.cmd.args), "user": container.cmd.user}


def test_images_are_listed_with_name_digest_size_and_pods(digest: str, roots: Roots) -> None:
    created(roots, "--image", "team/app:1")
    header, line = virtc("image", "list").stdout.splitlines()
    assert header.split() == ["IMAGE", "DIGEST", "MIB", "PODS"]
    assert line.split() == [NAME, digest[:19], "3.0", "1"]
    assert virtc("image", "list", "--quiet").stdout == f"{digest}\n"
    [listed] = json.loads(virtc("image", "list", "--json").stdout)
    assert (listed["digest"], listed["references"], listed["pods"]) == (digest, [NAME], ["p"])
    assert json.loads(virtc("image", "inspect", digest[:19]).stdout) == listed


@pytest.mark.parametrize(
    ("given", "args", "user"),
    [
        ([], ["entry", "own"], "bob"),
        (["--", "a", "b"], ["entry", "a", "b"], "bob"),
        (["--init-cmd", "a 'b c'"], ["entry", "a", "b c"], "bob"),
        (["--entrypoint", "sh -c", "--user", "0", "--", "true"], ["sh", "-c", "true"], "0"),
        (["--entrypoint", "", "--", "true"], ["true"], "bob"),
    ],
)
def test_the_options_of_a_pod_go_before_what_its_image_says(
    given: list[str], args: list[str], user: str, digest: str, roots: Roots
) -> None:
    assert created(roots, "--image", "team/app:1", *given) == {"image": f"{NAME}@{digest}", "args": args, "user": user}


def test_a_container_that_is_added_may_have_an_image(digest: str, roots: Roots) -> None:
    created(roots, "--", "x")
    done = virtc("container", "create", "p", "--id", "c2", "--image", f"sha256:{'12' * 6}")
    assert done.returncode == 0, done.stderr
    assert Store(roots).read_config("p").containers[1].image == digest


def test_with_a_kernel_alone_the_image_is_what_the_vm_boots_and_with_an_initramfs_that_of_the_container(
    digest: str, roots: Roots
) -> None:
    assert created(roots, "--kernel", "/k", "--image", "/i", "--", "x")["image"] == ""
    assert Store(roots).read_config("p").hypervisor_config.image_path == "/i"
    assert virtc("pod", "delete", "p").returncode == 0
    assert created(roots, "--kernel", "/k", "--initramfs", "/i", "--image", NAME)["image"] == f"{NAME}@{digest}"
    assert Store(roots).read_config("p").hypervisor_config.image_path == "/i"


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (("image", "remove"), 2, "name the images to remove, or give --all"),
        (("image", "remove", "--all", "a"), 2, "name the images to remove, or give --all"),
        (("image", "remove", "other"), 1, "image 'docker.io/library/other:latest' is not on this host"),
        (("image", "inspect", "Big"), 1, "image 'Big' is not a name of an image"),
        (("pod", "create", *MOCK, "--image", "oci:/srv/app:1"), 1, "'virtc image import' gives a name to an archive"),
        (("image", "pull", "sha256:0123456789ab"), 1, "has no name; give that of a registry"),
        (("image", "pull", "a", "--tls-verify=maybe"), 2, "'maybe' is not a valid boolean"),
        (("image", "import", "/no/such/file"), 1, "image source '/no/such/file' does not exist"),
        (("pod", "create", *MOCK, "--image", "a:"), 1, "image 'a:' has the tag ''"),
        (("pod", "create", *MOCK, "--image", "a", "--bundle", "/b"), 1, "and the rootfs '/b'; choose one"),
        (("pod", "create", *MOCK, "--entrypoint", "x"), 1, "has an entrypoint, but no image"),
        (("pod", "create", *MOCK, "--image", "a", "--entrypoint", "'"), 2, 'the entry point "\'" cannot be split'),
        (("pod", "create", *MOCK, "--image", "a", "--init-cmd", ""), 2, "the command is empty"),
        (("pod", "create", *MOCK, "--stop-signal", "NO"), 1, "signal 'NO' is unknown"),
    ],
)
def test_wrong_usage_is_one_sentence(arguments: tuple[str, ...], code: int, complaint: str) -> None:
    done = virtc(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_pruning_shows_what_it_would_remove_and_keeps_what_a_pod_has(digest: str, roots: Roots) -> None:
    created(roots, "--image", NAME)
    assert virtc("image", "prune", "--all").stdout == ""
    refused = virtc("image", "remove", "--all")
    assert (refused.returncode, refused.stderr) == (
        1,
        f"virtc: image {digest!r} is used by pod 'p'; delete the pod first\n",
    )
    assert virtc("pod", "delete", "p").returncode == 0
    assert virtc("image", "prune").stdout == ""
    assert virtc("image", "prune", "--all", "--dry-run").stdout == f"Would remove {NAME} ({digest})\n"
    assert [one["digest"] for one in json.loads(virtc("image", "prune", "--all", "--json").stdout)] == [digest]
    assert virtc("image", "list", "--quiet").stdout == ""
