"""What root in the guest achieves on the host over each share, and what it can read there.

A share of this project is read-only with the host's owners, modes and links (rootfs and mounts), or writable with all
of these in extended attributes (writable mounts). Root of the guest itself attacks, outside of all containers, where
both are mounted. It makes the read-only one writable first, as its kernel may: QEMU alone is between it and the host.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest

import vc_core as vc
from vc_core.store.roots import ROOT_VARIABLE

from .attacked_pod import Posture

pytestmark = [pytest.mark.root, pytest.mark.vm, pytest.mark.slow]

#: Each line is one attack, in the directory that is the current one; "NAME: ok" or its error is printed for it.
_ATTACKS = r"""
try() { name=$1; shift; if why=$("$@" 2>&1); then echo "$name: ok"; else echo "$name: ${why##*: }"; fi; }
try setuid sh -c 'cp /bin/busybox setuid && chmod 4755 setuid'
try chown sh -c 'echo x > owned && chown 1234:5678 owned'
try symlink ln -s /etc/hostname symlink
try block mknod block b 8 0
try char mknod char c 1 1
try fifo mkfifo fifo
try escape sh -c 'echo x > "$(printf "esc\033]0;owned\007\n\342\200\256\377")"'
try hardlink sh -c 'ln /etc/passwd hardlink || ln ../../../../../../etc/passwd hardlink'
try through cat link
try outside sh -c 'cat ../../../../../../../../../../../etc/shadow'
try rewrite sh -c 'echo changed > program && chmod 6777 program'
try remove rm here-$0
"""


class Outcome:
    """What the guest reported for each attack, and the directory of the host that it attacked."""

    def __init__(self, answers: Mapping[str, str], source: Path) -> None:
        self.answers, self.source = answers, source

    def on_host(self, name: str) -> os.stat_result:
        return (self.source / name).lstat()


def attack(posture: Posture, access: str) -> Outcome:
    """Let root in the guest attack the share of this access, mounted again by itself."""
    source = posture.top / access
    program = source / "program"
    program.write_text("of the host", encoding="utf-8")
    os.chown(program, 0, 0)
    program.chmod(0o4755)
    (source / f"here-{access}").touch()
    share = {"reading": "/run/vc/live", "writing": "/run/vc/writable"}[access]
    script = f"""
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
mount -o remount,rw {share} || exit 9
cd "$(dirname "$(find {share} -name here-{access})")" || exit 8
{_ATTACKS}
"""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ROOT_VARIABLE, str(posture.top / "root"))
        done = vc.enter_pod("posture", vc.Cmd(args=["busybox", "sh", "-c", script, access]), timeout=60)
    assert done.exit_code == 0, done
    lines = [line for line in done.stdout.decode(errors="replace").splitlines() if ": " in line]
    return Outcome(dict(line.split(": ", 1) for line in lines), source)


@pytest.fixture(scope="module")
def reading(posture: Posture) -> Outcome:
    return attack(posture, "reading")


@pytest.fixture(scope="module")
def writing(posture: Posture) -> Outcome:
    return attack(posture, "writing")


@pytest.mark.promise("T20")
def test_nothing_can_be_changed_over_a_read_only_share_even_by_the_guests_kernel(reading: Outcome) -> None:
    writes = {
        name: answer for name, answer in reading.answers.items() if name not in ("through", "outside", "hardlink")
    }
    assert set(writes.values()) == {"Read-only file system"}
    assert sorted(one.name for one in reading.source.iterdir()) == ["here-reading", "link", "program"]
    program = reading.on_host("program")
    assert (program.st_mode, program.st_size) == (stat.S_IFREG | 0o4755, len("of the host"))


@pytest.mark.promise("T20")
@pytest.mark.parametrize("name", ["setuid", "owned", "symlink", "block", "char", "fifo"])
def test_what_the_guest_makes_in_a_writable_share_is_a_plain_file_of_root_on_the_host(
    writing: Outcome, name: str
) -> None:
    status = writing.on_host(name)
    assert (stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode)) == (stat.S_IFREG, 0o600)
    assert (status.st_uid, status.st_gid, status.st_nlink) == (0, 0, 1)


def test_the_guest_itself_sees_what_it_made_there_as_it_made_it(writing: Outcome) -> None:
    made = ("setuid", "chown", "symlink", "block", "char", "fifo", "escape", "remove")
    assert {name: writing.answers[name] for name in made} == dict.fromkeys(made, "ok")
    assert not (writing.source / "here-writing").exists()


def test_a_set_user_id_program_of_the_host_that_the_guest_rewrites_is_none_any_more(writing: Outcome) -> None:
    assert (writing.source / "program").read_text(encoding="utf-8") == "changed\n"
    assert writing.on_host("program").st_mode & (stat.S_ISUID | stat.S_ISGID) == 0


@pytest.mark.promise("T20")
@pytest.mark.parametrize("access", ["reading", "writing"])
def test_a_link_on_the_host_does_not_lead_the_guest_to_a_file_of_the_host(
    access: str, request: pytest.FixtureRequest
) -> None:
    outcome: Outcome = request.getfixturevalue(access)
    refused = {"reading": "No such file or directory", "writing": "Too many levels of symbolic links"}[access]
    assert outcome.answers["through"] == refused
    assert stat.S_ISLNK(outcome.on_host("link").st_mode)


@pytest.mark.promise("T20")
@pytest.mark.parametrize("access", ["reading", "writing"])
@pytest.mark.parametrize("name", ["outside", "hardlink"])
def test_no_number_of_parent_directories_leads_out_of_a_share(
    access: str, name: str, request: pytest.FixtureRequest
) -> None:
    outcome: Outcome = request.getfixturevalue(access)
    assert outcome.answers[name] == "No such file or directory"


def test_a_root_file_system_as_an_image_has_it_works_with_its_links(attacked: Posture) -> None:
    command = vc.Cmd(args=["/bin/sh", "-c", "readlink /bin && ls /usr/bin/busybox && cat /secret"])
    assert vc.enter_container("posture", "c1", command).stdout == b"usr/bin\n/usr/bin/busybox\nof root"
