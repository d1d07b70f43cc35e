"""Names of images are read as docker reads them."""

from __future__ import annotations

import pytest

from vc_core.config.container import Cmd, ContainerConfig
from vc_core.config.image import ImageReference
from vc_core.errors import ConfigError

HEX = "0123456789abcdef" * 4
PIN = f"sha256:{HEX}"


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("user/app", "docker.io/user/app:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("index.docker.io/user/app:x", "docker.io/user/app:x"),
        ("docker://quay.io/a/b", "quay.io/a/b:latest"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app", "localhost:5000/app:latest"),
        ("127.0.0.1:5000/a/b/c:v1", "127.0.0.1:5000/a/b/c:v1"),
        ("[::1]:5000/app", "[::1]:5000/app:latest"),
        ("Registry/app", "Registry/app:latest"),
        (f"busybox@{PIN}", f"docker.io/library/busybox@{PIN}"),
        (f"busybox:1@{PIN}", f"docker.io/library/busybox:1@{PIN}"),
        (PIN, PIN),
        ("sha256:0123456789ab", "sha256:0123456789ab"),
        ("u/a__b-c.d/e--f", "docker.io/u/a__b-c.d/e--f:latest"),
    ],
)
def test_a_name_is_completed_as_docker_completes_it(given: str, full: str) -> None:
    assert str(ImageReference.parse(given)) == full
    assert ImageReference.parse(full) == ImageReference.parse(given)


@pytest.mark.parametrize(
    "given",
    [
        "",
        " busybox",
        "Busybox",
        "../etc",
        "a/../b",
        "a//b",
        "a/b:",
        "a:b c",
        "-a",
        "a@sha256:12",
        f"a@sha512:{HEX}",
        f"a@{PIN.upper()}",
        "https://quay.io/a",
        "a\n",
        "a:" + "t" * 129,
        "a" * 256,
        "--tls-verify=false",
        "oci:/etc",
    ],
)
def test_what_is_no_name_is_refused_with_the_value(given: str) -> None:
    with pytest.raises(ConfigError, match="image"):
        ImageReference.parse(given)


def test_a_value_that_is_no_text_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"ContainerConfig\.image is 7; give text"):
        ContainerConfig(id="c", image=7)  # type: ignore[arg-type] # that is what is tested
    with pytest.raises(ConfigError, match="image 7 is not a string; give a name such as"):
        ImageReference.parse(7)  # type: ignore[arg-type] # as above


def test_a_container_has_the_full_name_of_its_image() -> None:
    assert ContainerConfig(id="c", image="busybox").image == "docker.io/library/busybox:latest"


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"image": "a", "root_fs": "/srv"}, "has the image 'a' and the rootfs '/srv'"),
        ({"image": "a", "writable_root_fs": True}, "which all containers of it share"),
        ({"entrypoint": ["sh"], "cmd": Cmd(args=["x"])}, "has an entrypoint, but no image"),
        ({"image": "a", "entrypoint": "sh -c"}, "give a list of texts"),
        ({"stop_signal": "SIGNOTHING"}, "signal 'SIGNOTHING' is unknown"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(fields: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        ContainerConfig(id="c", **fields)  # type: ignore[arg-type] # that is what is tested
