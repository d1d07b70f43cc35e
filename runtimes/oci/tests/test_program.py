"""The program is looked for in the root as the container would, with the words that engines expect."""

from __future__ import annotations

from pathlib import Path

import pytest

from vc_runtime import program
from vc_runtime.faults import RuntimeFault


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    for folder in ("usr/bin", "etc"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "bin").symlink_to("/usr/bin")
    (tmp_path / "usr/bin/tool").write_bytes(b"")
    (tmp_path / "usr/bin/tool").chmod(0o755)
    (tmp_path / "etc/text").write_bytes(b"")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "out").symlink_to("../../../../../../../../bin/sh")
    return tmp_path


def look(rootfs: Path, name: str, path: str = "/bin", mounts: tuple[str, ...] = ()) -> None:
    program.check(rootfs, [name], [f"PATH={path}"], "/", mounts)


@pytest.mark.parametrize("name", ["tool", "/bin/tool", "./usr/bin/tool", "usr/../bin/tool"])
def test_a_program_is_found_through_links_of_the_root(rootfs: Path, name: str) -> None:
    look(rootfs, name)


def test_a_program_below_a_mount_is_taken_for_there(rootfs: Path) -> None:
    look(rootfs, "/opt/data/x", mounts=("/opt",))


def test_a_program_that_is_mounted_in_a_directory_that_the_root_lacks_is_taken_for_there(rootfs: Path) -> None:
    look(rootfs, "/sbin/init", mounts=("/sbin/init",))
    with pytest.raises(RuntimeFault, match="no such file or directory"):
        look(rootfs, "/sbin/other", mounts=("/sbin/init",))


def test_a_name_that_is_not_in_path_is_reported_as_by_runc(rootfs: Path) -> None:
    with pytest.raises(RuntimeFault, match=r'^exec: "nope": executable file not found in \$PATH$'):
        look(rootfs, "nope")


@pytest.mark.parametrize("name", ["/bin/nope", "/loop", "/out"])
def test_a_path_that_leads_nowhere_in_the_root_is_reported_as_by_runc(rootfs: Path, name: str) -> None:
    with pytest.raises(RuntimeFault, match=f'^exec: "{name}": stat {name}: no such file or directory$'):
        look(rootfs, name)


@pytest.mark.parametrize("name", ["/etc/text", "/etc"])
def test_what_cannot_be_executed_is_reported_as_by_runc(rootfs: Path, name: str) -> None:
    with pytest.raises(RuntimeFault, match=f'^exec: "{name}": permission denied$'):
        look(rootfs, name)
