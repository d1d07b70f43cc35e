"""A root file system of busybox for the containers of tests, with users and groups of its own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

#: Its /etc/passwd and /etc/group; the contract of agents runs commands as these users.
PASSWD = "root:x:0:0::/root:/bin/sh\nbob:x:1000:1001::/home/bob:/bin/sh\n"
GROUP = "root:x:0:\nbob:x:1001:\naudio:x:29:bob,eve\nvideo:x:44:\n"


def make_root_fs(directory: Path) -> None:
    """Fill a directory with a root file system: busybox with all its applets, and :data:`PASSWD` and :data:`GROUP`.

    Called by fixtures of tests. Skips the test on a host without a static busybox.
    """
    busybox = shutil.which("busybox", path="/usr/bin:/bin")
    if busybox is None:
        pytest.skip("busybox is not installed; on Debian: apt install busybox-static")
    for name in ("bin", "etc", "tmp"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(busybox, directory / "bin/busybox")
    for applet in subprocess.run([busybox, "--list"], capture_output=True, encoding="utf-8", check=True).stdout.split():
        if applet != "busybox":
            (directory / "bin" / applet).symlink_to("busybox")
    (directory / "etc/passwd").write_text(PASSWD, encoding="utf-8")
    (directory / "etc/group").write_text(GROUP, encoding="utf-8")
    directory.chmod(0o755)
