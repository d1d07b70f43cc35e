"""What a guest that writes to its root file system achieves on the host, and what other users find there.

Root of the guest itself attacks, outside of all containers. The guest chooses owners and modes of what it makes, so the
directory is one that no other user of the host can reach.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import vc_core as vc
from vc_core.store.roots import ROOT_VARIABLE
from vc_core.testing.rootfs import make_root_fs

from .test_strangers import STRANGERS, as_user

pytestmark = [pytest.mark.root, pytest.mark.vm, pytest.mark.slow]

#: Each line is one attack, in the root file system; "NAME: ok" or its error is printed for it.
_ATTACKS = r"""
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
cd /run/vc/roots/.roots/* || exit 9
try() { name=$1; shift; if why=$("$@" 2>&1); then echo "$name: ok"; else echo "$name: ${why##*: }"; fi; }
try setuid sh -c 'cp bin/busybox setuid && chown 0:0 setuid && chmod 6755 setuid'
try created sh -c 'umask 0; mkdir -m 6777 created'
try rewrite sh -c 'cat bin/busybox > program'
try block mknod block b 8 0
try char mknod char c 1 1
try whiteout mknod whiteout c 0 0
try hardlink sh -c 'ln ../../../../../../etc/passwd hardlink'
try outside cat ../../../../../../../../../../../etc/shadow
try link ln -s /etc/passwd link
try around sh -c 'cp bin/busybox ../planted'
"""


class Attacked:
    """A running pod with a root that it writes to; ``answers``: what became of each attack."""

    def __init__(self, root: Path, outside: Path) -> None:
        self.root, self.outside = root, outside
        self.answers: Mapping[str, str] = {}

    def sh(self, script: str) -> vc.ExecResult:
        return vc.enter_pod("written", vc.Cmd(args=["busybox", "sh", "-c", script]), timeout=60)


@pytest.fixture(scope="module")
def attacked() -> Iterator[Attacked]:
    with tempfile.TemporaryDirectory(prefix="vc-written-") as name, pytest.MonkeyPatch.context() as patch:
        top = Path(name)
        top.chmod(0o755)
        patch.setenv(ROOT_VARIABLE, str(top / "vc"))
        root, outside = top / "closed/root", top / "outside"
        make_root_fs(root)
        (top / "closed").chmod(0o700)
        outside.mkdir()
        (outside / "secret").write_text("of the host", encoding="utf-8")
        (root / "program").write_text("of the image", encoding="utf-8")
        (root / "program").chmod(0o4755)
        container = vc.ContainerConfig(
            id="c1", root_fs=str(root), cmd=vc.Cmd(args=["sleep", "100000"]), writable_root_fs=True
        )
        vc.run_pod(vc.PodConfig(id="written", hypervisor_type="qemu", containers=[container], strict=True))
        try:
            made = Attacked(root, outside)
            done = made.sh(_ATTACKS)
            assert done.exit_code == 0, done
            lines = done.stdout.decode(errors="replace").splitlines()
            made.answers = dict(line.split(": ", 1) for line in lines if ": " in line)
            yield made
        finally:
            vc.delete_pod("written", force=True)


@pytest.mark.promise("T20")
@pytest.mark.parametrize("name", ["setuid", "created", "program"])
def test_no_file_of_the_host_is_set_user_id_by_the_guest(attacked: Attacked, name: str) -> None:
    assert {attacked.answers[one] for one in ("setuid", "created", "rewrite")} == {"ok"}
    assert (attacked.root / name).stat().st_mode & (stat.S_ISUID | stat.S_ISGID) == 0


@pytest.mark.promise("T20")
@pytest.mark.parametrize("name", ["block", "char", "whiteout"])
def test_the_guest_makes_no_device_on_the_host(attacked: Attacked, name: str) -> None:
    assert attacked.answers[name] == "Permission denied"
    assert not os.path.lexists(attacked.root / name)


@pytest.mark.promise("T20")
@pytest.mark.parametrize("name", ["hardlink", "outside"])
def test_no_number_of_parent_directories_leads_out_of_a_root(attacked: Attacked, name: str) -> None:
    assert attacked.answers[name] == "No such file or directory"


@pytest.mark.promise("T20")
def test_nothing_can_be_made_around_the_roots(attacked: Attacked) -> None:
    assert attacked.answers["around"] == "Read-only file system"


@pytest.mark.promise("T20")
def test_a_directory_that_becomes_a_link_leads_qemu_nowhere(attacked: Attacked) -> None:
    """The guest's kernel asks for names below a directory that it has open, which is a link of the host by then."""
    (attacked.root / "folder").mkdir()
    (attacked.root / "folder/mine").write_text("of the guest", encoding="utf-8")
    script = """
    export PATH=/bin:/sbin:/usr/bin:/usr/sbin
    cd /run/vc/roots/.roots/*/folder && cat mine && touch ../ready || exit 9
    i=0; until [ -e ../swapped ] || [ $i = 3000 ]; do i=$((i + 1)); usleep 10000; done
    cat secret; echo planted >planted; mkdir made; ln -s x made2; cat ./secret; true
    """
    with ThreadPoolExecutor() as pool:
        running = pool.submit(attacked.sh, script)
        while not (attacked.root / "ready").exists():
            assert not running.done(), running.result()
        (attacked.root / "folder").rename(attacked.root / "moved")
        (attacked.root / "folder").symlink_to(attacked.outside)
        (attacked.root / "swapped").touch()
        out = running.result().stdout
    assert out == b"of the guest"
    assert [one.name for one in attacked.outside.iterdir()] == ["secret"]


@pytest.mark.promise("T20")
@pytest.mark.parametrize("uid", STRANGERS)
def test_another_user_of_the_host_reaches_no_file_of_a_root(attacked: Attacked, uid: int) -> None:
    for name in ("", "setuid", "program", "etc/passwd"):
        with pytest.raises(PermissionError):
            as_user(uid, (attacked.root / name).stat)
