"""The namespaces of a plain user's supervisor; tests/integration/test_plain_user.py has pods in them."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from vc_core.host.namespaces import subordinate_ids

NAME = pwd.getpwuid(0).pw_name


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"other:100000:65536\n{NAME}:165536:1000\n{NAME}:300000:9\n", (165536, 1000)),
        ("0:200000:5", (200000, 5)),
        ("", None),
        (f"{NAME}2:100000:65536\n", None),
        (f"{NAME}\n{NAME}:\n{NAME}:x:y\n{NAME}:1:0\n\n{NAME}:-1:3\n", None),
    ],
)
def test_the_first_range_of_a_user_is_found_by_name_or_id(
    tmp_path: Path, text: str, found: tuple[int, int] | None
) -> None:
    (tmp_path / "subuid").write_text(text, encoding="utf-8")
    assert subordinate_ids(tmp_path / "subuid", 0) == found


def test_a_user_without_a_name_and_a_host_without_the_file_have_none(tmp_path: Path) -> None:
    assert subordinate_ids(tmp_path / "missing", 0) is None
    (tmp_path / "subuid").write_text("54321:7:8\n", encoding="utf-8")
    assert subordinate_ids(tmp_path / "subuid", 54321) == (7, 8)


#: Enters new namespaces, or those of the process argv[1]. Prints whether something is mounted on argv[2] there, whether
#: the ids are the same as before, and how mount(8) ends, which needs capabilities; then waits for a line.
_ENTER = """
import os, subprocess, sys
from pathlib import Path
from vc_core.driver import ProcessIdentity
from vc_core.host import mounts, namespaces
before = os.geteuid(), os.getegid()
namespaces.enter(ProcessIdentity.of(int(sys.argv[1])) if sys.argv[1] else None)
place = Path(sys.argv[2])
print(bool(mounts.mounted_below(place)))
print((os.geteuid(), os.getegid()) == before)
print(subprocess.run(["mount", "--bind", place, place]).returncode, flush=True)
sys.stdin.readline()
"""


@pytest.mark.needs("user namespaces")
def test_a_process_may_mount_with_its_own_ids_and_another_one_enters_its_namespaces(tmp_path: Path) -> None:
    def enter(pid: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-c", _ENTER, pid, str(tmp_path)]
        return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8")

    with enter("") as first:
        assert first.stdout is not None
        assert [first.stdout.readline().strip() for _ in range(3)] == ["False", "True", "0"]
        with enter(str(first.pid)) as second:
            assert second.communicate("\n")[0].split() == ["True", "True", "0"]
            assert second.returncode == 0
        first.communicate("\n")
    assert not os.path.ismount(tmp_path), "nothing is mounted for other processes"


@pytest.mark.needs("user namespaces")
def test_a_process_that_the_kernel_refuses_a_namespace_gets_one_sentence() -> None:
    # Without a mapping it has the user id of nobody, to whom the kernel gives no further namespace.
    code = "from vc_core.host import namespaces; namespaces.enter(None)"
    done = subprocess.run(["unshare", "--user", sys.executable, "-c", code], capture_output=True, encoding="utf-8")
    assert "cannot have pods, because the kernel refuses a user namespace: Operation not permitted" in done.stderr
