"""What containers of podman write to their root file systems, where its storage has directories instead of overlays."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_host import MARKS
from podman_host import IMAGE, Podman
from podman_host import podman as made_podman

pytestmark = [pytest.mark.needs("podman"), *MARKS]

#: What the container writes: a file of a user of its own, a link and a set-user-id program.
_SCRIPT = (
    "echo from the guest >/note; chown 1234:5678 /note; chmod 640 /note; ln -s /note /link; mkdir /folder; "
    "cp /bin/busybox /program; chmod 4755 /program; while true; do sleep 1; done"
)


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    with made_podman(tmp_path_factory.mktemp("podman"), "vfs") as made:
        yield made


@pytest.fixture(autouse=True)
def cleaned(podman: Podman) -> Iterator[None]:
    yield
    podman.wait_cleaned()


@pytest.fixture(scope="module")
def running(podman: Podman) -> str:
    """Return a container that has written to its root, and runs."""
    podman("run", "--detach", "--name", "writes", "--network", "none", IMAGE, "sh", "-c", _SCRIPT)
    wait = "until [ -x /program ]; do sleep 0.1; done"
    podman("exec", "writes", "sh", "-c", wait)
    return "writes"


def changes(podman: Podman, container: str) -> set[str]:
    """Return what podman finds that a container has changed."""
    return set(podman("diff", container).splitlines())


def test_what_a_running_container_writes_is_in_its_engines_list_of_changes(podman: Podman, running: str) -> None:
    assert changes(podman, running) >= {"A /note", "A /link", "A /folder", "A /program"}


def test_files_are_copied_out_of_a_running_container_and_into_it(podman: Podman, running: str, tmp_path: Path) -> None:
    podman("cp", f"{running}:/note", str(tmp_path / "note"))
    assert (tmp_path / "note").read_text(encoding="utf-8") == "from the guest\n"
    (tmp_path / "given").write_text("from the host\n", encoding="utf-8")
    podman("cp", str(tmp_path / "given"), f"{running}:/folder/given")
    assert podman("exec", running, "cat", "/folder/given") == "from the host"


def test_a_committed_image_has_what_the_container_wrote_with_its_owners_and_modes(
    podman: Podman, running: str, tmp_path: Path
) -> None:
    podman("commit", "--quiet", running, "localhost/written:test")
    podman("create", "--name", "of-it", "localhost/written:test", "true")
    podman("export", "--output", str(tmp_path / "export.tar"), "of-it")
    with tarfile.open(tmp_path / "export.tar") as archive:
        note, link = archive.getmember("note"), archive.getmember("link")
        program = archive.getmember("program")
    podman("rm", "of-it")
    assert (note.uid, note.gid, note.mode & 0o7777) == (1234, 5678, 0o640)
    assert (link.issym(), link.linkname) == (True, "/note")
    # Set-user-id bits never leave the guest (docs/how-to/podman.md).
    assert program.mode & 0o7777 == 0o755


def test_a_link_that_a_container_leaves_leads_its_engine_to_no_file_of_the_host(
    podman: Podman, running: str, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the host", encoding="utf-8")
    podman("exec", running, "sh", "-c", f"ln -sf {secret} /leads; ln -sfn {tmp_path} /out")
    assert podman.run("cp", f"{running}:/leads", str(tmp_path / "got"), check=False).returncode != 0
    assert podman.run("cp", f"{running}:/out/secret", str(tmp_path / "got"), check=False).returncode != 0
    assert not os.path.lexists(tmp_path / "got")


def test_a_stopped_container_is_copied_from_and_to_and_starts_with_what_it_wrote(
    podman: Podman, running: str, tmp_path: Path
) -> None:
    podman("stop", "--time", "1", running)
    podman.wait_cleaned()
    podman("cp", f"{running}:/note", str(tmp_path / "stopped"))
    assert (tmp_path / "stopped").read_text(encoding="utf-8") == "from the guest\n"
    (tmp_path / "meanwhile").write_text("while it was stopped\n", encoding="utf-8")
    podman("cp", str(tmp_path / "meanwhile"), f"{running}:/folder/meanwhile")
    podman("exec", podman("start", running), "true")
    assert podman("exec", running, "cat", "/note", "/folder/meanwhile") == "from the guest\nwhile it was stopped"
    podman("rm", "--force", "--time", "0", running)


def test_the_containers_of_a_pod_write_to_their_roots_too(podman: Podman) -> None:
    infra = ("--infra-image", IMAGE, "--infra-command", "sleep 100000")
    podman("pod", "create", "--name", "p", "--network", "none", *infra)
    podman("run", "--detach", "--pod", "p", "--name", "member", IMAGE, "sh", "-c", "echo kept >/mine; sleep 1000")
    podman("exec", "member", "sh", "-c", "until [ -s /mine ]; do sleep 0.1; done")
    assert "A /mine" in changes(podman, "member")
    podman("pod", "rm", "--force", "--time", "0", "p")


def test_a_build_runs_its_commands_in_a_vm_and_keeps_what_they_write(podman: Podman, tmp_path: Path) -> None:
    (tmp_path / "Containerfile").write_text(
        f"FROM {IMAGE}\nRUN uname -r >/kernel; mkdir /made; chown 7:8 /made\n", encoding="utf-8"
    )
    podman("build", "--quiet", "--network", "none", "--tag", "localhost/built:test", str(tmp_path))
    podman("create", "--name", "built", "localhost/built:test", "true")
    podman("export", "--output", str(tmp_path / "built.tar"), "built")
    podman("rm", "built")
    with tarfile.open(tmp_path / "built.tar") as archive:
        kernel = archive.extractfile("kernel")
        assert kernel is not None
        assert kernel.read().decode().strip() != os.uname().release
        assert (archive.getmember("made").uid, archive.getmember("made").gid) == (7, 8)
