"""Which directories of the host a container may write to as its root: those that no other user can reach."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from vc_core.errors import ConfigError
from vc_core.host import closed, sources
from vc_core.host.paths import Rules
from vc_core.store.roots import Roots

_OPEN = r"other users of this host can reach '.*/top/root'; put it below a directory that only you can enter"


@pytest.fixture
def rules() -> Rules:
    return Rules(Roots.from_environment())


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """Return a directory with a directory ``root`` that is filled; all above it are open to every user."""
    (tmp_path / "top/root/bin").mkdir(parents=True)
    for one in (tmp_path / "top", tmp_path / "top/root"):
        one.chmod(0o755)
    return tmp_path / "top"


def reason(directory: Path, *names: Path) -> str:
    fd = os.open(directory, os.O_PATH)
    try:
        return closed.why_not(fd, names or [directory])
    finally:
        os.close(fd)


@pytest.mark.parametrize("mode", [0o700, 0o600, 0o744, 0o766])
def test_a_directory_below_one_that_only_its_owner_enters_is_closed(top: Path, mode: int) -> None:
    top.chmod(mode)
    assert closed._is_closed(top)


@pytest.mark.parametrize("mode", [0o755, 0o711, 0o701])
def test_a_directory_that_others_enter_is_open(top: Path, mode: int) -> None:
    top.chmod(mode)
    assert not closed._is_closed(top)


@pytest.mark.root
def test_the_group_of_root_may_enter_and_no_other_group(top: Path) -> None:
    top.chmod(0o710)
    assert closed._is_closed(top)
    os.chown(top, 0, 1)
    assert not closed._is_closed(top)


@pytest.mark.root
def test_a_directory_of_another_user_is_open_because_he_can_change_its_mode(top: Path) -> None:
    top.chmod(0o700)
    os.chown(top, 65534, 0)
    assert not closed._is_closed(top)


@pytest.mark.root
def test_a_list_of_further_users_opens_a_directory(top: Path) -> None:
    # Version 2, then tag, permissions and id of each entry (linux/posix_acl_xattr.h): owner, user 65534, group, mask,
    # others.
    entries = ((1, 7, -1), (2, 1, 65534), (4, 0, -1), (0x10, 1, -1), (0x20, 0, -1))
    access = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    os.setxattr(top, "system.posix_acl_access", access)
    assert not closed._is_closed(top)


def test_a_root_that_is_closed_itself_is_refused_because_its_container_can_open_it(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (top / "root").chmod(0o700)
    seen: list[Path] = []
    monkeypatch.setattr(closed, "_is_closed", lambda path: seen.append(path))
    assert "other users of this host can reach" in reason(top / "root")
    assert seen == list((top / "root").parents)


def test_each_name_of_a_directory_must_be_closed(top: Path) -> None:
    top.chmod(0o700)
    assert reason(top / "root") == ""
    assert "can reach '/usr/bin'" in reason(top / "root", top / "root", Path("/usr/bin"))


@pytest.mark.root
def test_a_mount_in_an_open_place_is_such_a_name(top: Path) -> None:
    script = """
import os, sys
from pathlib import Path
from vc_core.host.paths import Rules
from vc_core.store.roots import Roots
print(*Rules(Roots.from_environment()).names_of(os.open(sys.argv[1], os.O_PATH)), sep="\\n")
"""
    other = top.parent / "other"
    other.mkdir()
    mount = f'mount --bind "$1" "{other}" && exec "{sys.executable}" -c "$2" "$1/root"'
    command = ["unshare", "--mount", "sh", "-c", mount, "sh", str(top), script]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert (sorted(done.stdout.splitlines()), done.stderr) == (sorted([str(top / "root"), f"{other}/root"]), "")


@pytest.mark.root
def test_an_overlay_is_refused_for_root_whose_vms_have_other_owners(top: Path) -> None:
    top.chmod(0o700)
    for name in ("lower", "upper", "work", "merged"):
        (top / name).mkdir()
    (top / "lower/file").touch()
    script = """
import os, sys
from pathlib import Path
from vc_core.host import closed
fd, name = os.open(sys.argv[1], os.O_PATH), Path(sys.argv[1])
print(closed.why_not(fd, [name]), closed.why_untranslated(fd, name), sep="\\n")
"""
    mount = (
        'cd "$1" && mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged && '
        f'exec "{sys.executable}" -c "$2" "$1/merged"'
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount, "sh", str(top), script], capture_output=True, encoding="utf-8"
    )
    checked, tried = done.stdout.splitlines() or (done.stderr, "")
    assert "it is an overlay, of which the kernel does not translate owners" in checked
    assert "does not translate owners (idmapped mounts)" in tried, "this kernel can, so an overlay need not be refused"


@pytest.mark.root
def test_the_kernel_is_asked_whether_it_translates_the_owners_of_a_file_system(top: Path) -> None:
    with sources.Source("root", str(top / "root")) as source:
        assert closed.why_untranslated(source.fd, source.path) == ""
    with sources.Source("root", "/proc/sys") as source:
        assert "does not translate owners (idmapped mounts)" in closed.why_untranslated(source.fd, source.path)


def test_the_sentence_names_the_way_in_and_what_to_do(top: Path, rules: Rules, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closed, "_is_closed", lambda path: False)
    with pytest.raises(ConfigError, match=_OPEN):
        sources.check_writable_root(str(top / "root"), rules)
