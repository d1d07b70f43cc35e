"""Containers of images: what the image says counts in a real guest, and no image is taken from a pod."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import vc_core as vc
from image_layouts import Registry, directory, entry, layer, make_busybox, make_layout
from needs import require
from plain_user import PlainUser
from vc_core.errors import StateError
from vc_core.testing.rootfs import make_root_fs
from vc_core.testing.slowness import scaled
from waiting import PATIENCE

from .conftest import pod_config, virtc

pytestmark = [pytest.mark.vm, pytest.mark.hypervisors("qemu")]

#: Says what it was given, and then waits for a signal.
SCRIPT = """\
echo "$0 $*"; id; pwd; echo "$HOME $GREETING"
trap "echo interrupted; exit 3" INT
touch /work/ready
while :; do sleep 0.1; done
"""


@pytest.fixture(scope="module")
def image(root: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the name of an image of busybox, pulled from a registry that is gone again."""
    require("skopeo", "umoci", "docker-registry")
    place = tmp_path_factory.mktemp("image")
    settings = {
        "entrypoint": ["/bin/sh", "-c"],
        "cmd": SCRIPT,
        "env": ["GREETING=hello", "PATH=/work:/bin"],
        "user": "bob:audio",
        "workingdir": "/work",
        "stopsignal": "SIGINT",
    }
    layout = make_busybox(place, settings)
    registry = Registry(place)
    try:
        name = registry.push(layout, "team/busybox:1.36")
        vc.pull_image(name, tls_verify=False)
    finally:
        registry.close()
    return name


@pytest.fixture(scope="module")
def files(image: str) -> dict[str, tuple[int, int, int]]:
    """Return mode, size and time of each file of the image before any pod has it."""
    return _files(image)


def _files(image: str) -> dict[str, tuple[int, int, int]]:
    every = Path(vc.status_image(image).root_fs).rglob("*")
    return {str(path): ((found := path.lstat()).st_mode, found.st_size, found.st_mtime_ns) for path in every}


@pytest.fixture(scope="module")
def running(image: str, files: dict[str, tuple[int, int, int]]) -> Iterator[vc.Pod]:
    """Return a pod with a container "own" of all that the image says, and "given" of what the caller gives instead."""
    given = vc.ContainerConfig(
        id="given",
        image=image,
        entrypoint=["/bin/sh", "-c", SCRIPT],
        stop_signal="TERM",
        cmd=vc.Cmd(args=["zero", "one"], envs=[vc.EnvVar("GREETING", "bye")], user="root", work_dir="/tmp"),
    )
    pod = vc.run_pod(pod_config(id="images", containers=[vc.ContainerConfig(id="own", image=image), given]))
    yield pod
    pod.delete(force=True)


def log_of(pod: vc.Pod, container_id: str, lines: int) -> list[str]:
    """Return the last lines of a container's log, once it has as many and the last one is whole."""
    path, end = Path(pod.container(container_id).status().log_path), time.monotonic() + PATIENCE
    while (text := path.read_text(encoding="utf-8")).count("\n") < lines and time.monotonic() < end:
        pass
    return text.splitlines()[-lines:]


def wait_ready(pod: vc.Pod, container_id: str) -> None:
    """Return when the present run of a container waits for a signal."""
    script = "until [ -e /work/ready ]; do sleep 0.1; done"
    pod.enter_container(container_id, vc.Cmd(args=["sh", "-c", script]), timeout=scaled(20))


def test_command_user_directory_and_environment_are_those_of_the_image(running: vc.Pod) -> None:
    assert log_of(running, "own", 4) == [
        "/bin/sh ",
        "uid=1000(bob) gid=29(audio) groups=29(audio)",
        "/work",
        "/home/bob hello",
    ]


def test_what_the_caller_gives_counts_instead(running: vc.Pod) -> None:
    assert log_of(running, "given", 4) == ["zero one", "uid=0(root) gid=0(root)", "/tmp", "/root bye"]


def test_a_command_that_enters_has_user_directory_and_environment_of_the_container(running: vc.Pod) -> None:
    script = ["sh", "-c", "id -un; pwd; echo $GREETING $PATH"]
    assert running.enter_container("own", vc.Cmd(args=script)).stdout == b"bob\n/work\nhello /work:/bin\n"
    entered = running.enter_container(
        "own", vc.Cmd(args=script, user="0", work_dir="/", envs=[vc.EnvVar("PATH", "/bin")])
    )
    assert entered.stdout == b"root\n/\nhello /bin\n"


def test_what_a_container_writes_stays_in_the_guest(
    running: vc.Pod, image: str, files: dict[str, tuple[int, int, int]]
) -> None:
    script = "echo changed >/etc/passwd && rm -r /work && mkdir /new"
    assert running.enter_container("given", vc.Cmd(args=["sh", "-c", script])).exit_code == 0
    assert _files(image) == files
    assert running.enter_container("own", vc.Cmd(args=["ls", "-d", "/work"])).exit_code == 0


def test_a_container_of_an_image_can_be_added_to_a_running_pod(running: vc.Pod, image: str) -> None:
    done = virtc(
        "container", "create", "--image", image, "--id", "added", "images", "--entrypoint", "", "--", "id", "-u"
    )
    assert done.returncode == 0, done.stderr
    added = running.container("added")
    added.start()
    assert added.wait() == 0
    assert log_of(running, "added", 1) == ["1000"]
    added.delete()


def test_an_image_of_a_running_pod_is_not_removed(running: vc.Pod, image: str) -> None:
    with pytest.raises(StateError, match="is used by pod 'images'; delete the pod first"):
        vc.delete_image(image)
    assert vc.prune_images(every=True) == []
    assert vc.status_image(image).pods == ("images",)


def test_a_container_is_stopped_by_the_signal_of_its_image(running: vc.Pod) -> None:
    own = running.container("own")
    wait_ready(running, "own")
    own.stop()
    assert (own.status().exit_code, log_of(running, "own", 5)[-1]) == (3, "interrupted")
    own.start()


def test_containers_of_a_pod_that_is_stopped_get_their_own_signals(running: vc.Pod) -> None:
    wait_ready(running, "own")
    running.stop()
    assert log_of(running, "own", 1) == ["interrupted"]
    assert log_of(running, "given", 1) != ["interrupted"]


@pytest.mark.root
@pytest.mark.needs("user namespaces", "mount namespaces", "skopeo", "umoci")
def test_a_plain_user_has_images_whose_files_belong_to_root_in_the_pod() -> None:
    with TemporaryDirectory(prefix="plain-", dir="/var/tmp") as place:
        user = PlainUser(Path(place))
        user.take_guest()
        make_root_fs(user.home / "rootfs")
        members = [directory("closed", 0o555), entry("closed/file", uid=7, mode=0o600), directory("shut", 0)]
        busybox = (user.home / "rootfs/bin/busybox").read_bytes()
        base = [
            directory("bin"),
            entry("bin/busybox", busybox, mode=0o755),
            entry("bin/set", b"x", uid=1000, mode=0o4755),
        ]
        settings = {"Entrypoint": ["/bin/busybox"], "User": "1000"}
        make_layout(user.home / "layout", [layer(*base), layer(*members)], settings)
        user.own(user.home)
        user.run("virtc", "image", "import", "layout", "app")
        script = "id -u; stat -c '%u %a' closed/file bin/set"
        user.run("virtc", "pod", "create", "--id", "own", "--image", "app", "--", "sh", "-c", script)
        try:
            user.run("virtc", "pod", "start", "own")
            assert user.run("virtc", "container", "wait", "own", "1").stdout == "0\n"
            status = json.loads(user.run("virtc", "container", "status", "own", "1", "--json").stdout)
            assert Path(status["log_path"]).read_text(encoding="utf-8").split("\n")[:3] == ["1000", "0 600", "0 4755"]
            refused = user.run("virtc", "image", "remove", "app", check=False)
            assert "is used by pod 'own'" in refused.stderr
        finally:
            user.run("virtc", "pod", "delete", "--force", "own")
        user.run("virtc", "image", "remove", "app")
        left = (user.home / ".local/state/virtcontainers/images").iterdir()
        assert {path.name for path in left} == {".lock", "names.json"}
