"""Bind mounts, plain ones and with owners translated to the ids of a user namespace."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import takewhile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.root, pytest.mark.needs("mount namespaces", "user namespaces")]

#: Binds argv[1] on argv[2] with owners translated to the namespace argv[3], and prints what root then sees there and
#: what owner a file has on the host that the user 1,000,007, whom the host has as 7, makes.
_SCRIPT = """
import os, sys
from pathlib import Path
from vc_core.host import mounts
source, target, users = map(Path, sys.argv[1:])
mounts.bind(os.open(source, os.O_PATH), target, mounts.MS_NOSUID, users)
print((target / "theirs").stat().st_uid)
os.setegid(1_000_007)
os.seteuid(1_000_007)
(target / "new").touch()
os.seteuid(0)
print((source / "new").stat().st_uid, (source / "new").stat().st_gid)
print("nosuid" if os.statvfs(target).f_flag & os.ST_NOSUID else "suid")
"""


def test_a_translated_mount_shows_the_owners_ids_of_the_namespace_and_keeps_those_of_the_host(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir(mode=0o777)
    source.chmod(0o777)
    target.mkdir()
    (source / "theirs").touch()
    os.chown(source / "theirs", 7, 7)
    for above in takewhile(lambda one: "pytest-of-" in str(one), (tmp_path, *tmp_path.parents)):
        above.chmod(0o755)  # pytest's own directories only
    with subprocess.Popen(["unshare", "--user", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.write(b"ready\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == b"ready\n"  # it is in the namespace
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{holder.pid}/{name}").write_text("0 1000000 65536", encoding="utf-8")
        done = subprocess.run(
            ["unshare", "--mount", sys.executable, "-c", _SCRIPT, source, target, f"/proc/{holder.pid}/ns/user"],
            capture_output=True,
            encoding="utf-8",
        )
    assert (done.stdout.splitlines(), done.stderr) == (["1000007", "7 7", "nosuid"], "")


def test_a_file_system_that_cannot_translate_owners_is_refused_with_einval(tmp_path: Path) -> None:
    script = (
        "import errno, os, sys\n"
        "from pathlib import Path\n"
        "from vc_core.host import mounts\n"
        "try:\n"
        "    mounts.bind(os.open('/proc', os.O_PATH), Path(sys.argv[1]), 0, Path('/proc/self/ns/user'))\n"
        "except OSError as error:\n"
        "    print(errno.errorcode[error.errno], error.filename)\n"
    )
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", script, tmp_path], capture_output=True, encoding="utf-8"
    )
    assert done.stdout.split()[0] in ("EINVAL", "EPERM"), done.stderr
    assert done.stdout.split()[1] == str(tmp_path)


#: Binds argv[1] below the shared mount argv[2], of which another mount namespace has a copy, and prints the options
#: that the bind has there.
_COPY = """
import os, subprocess, sys
from pathlib import Path
from vc_core.host import mounts
source, shared = map(Path, sys.argv[1:])
mounts.bind(os.open(shared, os.O_PATH), shared)
mounts.make_shared(shared)
look = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", "echo; read go; cat /proc/self/mountinfo"]
with subprocess.Popen(look, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8") as copy:
    copy.stdout.readline()
    mounts.bind(os.open(source, os.O_PATH), shared / "place", mounts.MS_RDONLY | mounts.MS_NOSUID | mounts.MS_NODEV)
    print([line.split()[5] for line in copy.communicate("\\n")[0].splitlines() if f"{shared}/place " in line])
"""


def test_a_bind_has_its_flags_in_a_copy_of_the_mount_above_it_too(tmp_path: Path) -> None:
    source, shared = tmp_path / "source", tmp_path / "shared"
    source.mkdir()
    (shared / "place").mkdir(parents=True)
    argv = ["unshare", "--mount", sys.executable, "-c", _COPY, str(source), str(shared)]
    done = subprocess.run(argv, capture_output=True, encoding="utf-8")
    assert done.stdout.startswith("['ro,nosuid,nodev"), done.stderr or done.stdout


#: Mounts a file system on argv[1], and prints whether the table of mounts names it.
_MOUNTED = """
import subprocess, sys
from pathlib import Path
from vc_core.host import mounts
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", sys.argv[1]], check=True)
print(Path(sys.argv[1]) in [mount.point for mount in mounts.table()])
"""


@pytest.mark.parametrize("name", [b"\xff\xfe", b"a\rb", b"a b\tc\nd\\e", "\u2028\x85".encode()])
def test_a_mount_of_any_name_is_in_the_table(name: bytes, tmp_path: Path) -> None:
    place = tmp_path / os.fsdecode(name)
    place.mkdir()
    argv = ["unshare", "--mount", sys.executable, "-c", _MOUNTED, str(place)]
    assert subprocess.run(argv, capture_output=True, encoding="utf-8").stdout == "True\n"
