"""podman with directories, a network namespace and pods of its own, so that tests meet nothing of the host's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

#: Seconds for one command of podman, in which a VM may boot.
TIMEOUT = 120.0

#: The image that tests run: busybox.
IMAGE = "localhost/busybox:test"

#: podman raises limits above those of this process, unless it is told others.
_CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile=1024:4096", "nproc=2048:2048"]
[network]
firewall_driver = "iptables"
"""


class Podman:
    """One podman. ``run``: the directory of its sockets. ``network``: the path of its network namespace."""

    def __init__(self, top: Path, run: str, network: str) -> None:
        self.top, self.network = top, network
        self.runtime = top / "vc-runtime"
        self.records = top / "records"
        self._options = ["--root", str(top / "root"), "--runroot", run, "--tmpdir", run]
        self._options += ["--network-config-dir", str(top / "net"), "--storage-driver", "overlay"]
        self._options += ["--cgroup-manager", "cgroupfs", "--events-backend", "file", "--runtime", str(self.runtime)]

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of podman with these arguments."""
        return ["nsenter", f"--net={self.network}", "podman", *self._options, *arguments]

    def run(self, *arguments: str, given: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run podman and return what it wrote. Fails the test where podman fails, unless ``check`` is false."""
        done = subprocess.run(
            self.command(*arguments),
            env={**os.environ, "CONTAINERS_CONF": str(self.top / "containers.conf")},
            input=given,
            capture_output=True,
            encoding="utf-8",
            timeout=TIMEOUT,
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def wait_cleaned(self) -> None:
        """Wait until no podman cleans up after a container that has ended, which goes on behind commands.

        Then unmount the directory of layers, unless containers run: podman mounts it on itself, and leaves it so.
        """
        deadline = time.monotonic() + TIMEOUT
        while self._cleaning():
            assert time.monotonic() < deadline, "podman still cleans up"
            threading.Event().wait(0.05)
        subprocess.run(["umount", str(self.top / "root/overlay")], capture_output=True)

    def _cleaning(self) -> bool:
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdecimal() else []
                if b"cleanup" in words and os.fsencode(self.top / "root") in words and b"conmon" not in words[0]:
                    return True
        return False

    def __call__(self, *arguments: str) -> str:
        """Run podman and return its output, without the line break at its end."""
        return self.run(*arguments).stdout.rstrip("\n")


@contextmanager
def podman(top: Path) -> Iterator[Podman]:
    """Make a podman below a directory; all of its containers are removed at the end."""
    for name in ("root", "net", "records"):
        (top / name).mkdir()
    (top / "containers.conf").write_text(_CONTAINERS_CONF, encoding="utf-8")
    program = f"{sys.executable} -m vc_runtime.main --root {top}/records"
    (top / "vc-runtime").write_text(
        f'#!/bin/sh\nexport VIRTCONTAINERS_ROOT={top}/vc VIRTCONTAINERS_TEMPLATES=existing\nexec {program} "$@"\n',
        encoding="utf-8",
    )
    (top / "vc-runtime").chmod(0o755)
    with (
        TemporaryDirectory(prefix="vc-", dir="/tmp", ignore_cleanup_errors=True) as run,  # podman wants a short name
        subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec sleep 100000"], stdout=subprocess.PIPE) as holder,
    ):
        assert holder.stdout is not None
        holder.stdout.readline()
        made = Podman(top, run, f"/proc/{holder.pid}/ns/net")
        try:
            subprocess.run(["nsenter", f"--net=/proc/{holder.pid}/ns/net", "ip", "link", "set", "lo", "up"], check=True)
            _make_image(made)
            yield made
        finally:
            made.run("rm", "--all", "--force", "--time", "0", check=False)
            made.run("pod", "rm", "--all", "--force", "--time", "0", check=False)
            holder.kill()
            made.wait_cleaned()


def _make_image(podman: Podman) -> None:
    rootfs = podman.top / "rootfs"
    for folder in ("bin", "etc", "tmp", "proc", "sys", "dev"):
        (rootfs / folder).mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy(busybox, rootfs / "bin/busybox")
    applets = subprocess.run([busybox, "--list"], capture_output=True, encoding="utf-8", check=True).stdout.split()
    for applet in applets:
        if applet != "busybox":
            (rootfs / "bin" / applet).symlink_to("busybox")
    (rootfs / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nbob:x:1000:1000::/:/bin/sh\n", encoding="utf-8")
    archive = podman.top / "image.tar"
    subprocess.run(["tar", "-C", str(rootfs), "-cf", str(archive), "."], check=True)
    podman("import", str(archive), IMAGE)
