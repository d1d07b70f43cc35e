"""podman with directories, a network and pods of its own, so that tests meet nothing of the host's."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from engine_host import make_archive, make_rootfs

from plain_user import PlainUser

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
    """One podman. ``top``: where its runtime is. ``prefix``: the command line that runs it. ``storage``: its images."""

    def __init__(
        self,
        top: Path,
        prefix: Sequence[str],
        storage: Path,
        options: Sequence[str] = (),
        environment: Mapping[str, str] = os.environ,
        driver: str = "overlay",
    ) -> None:
        self.top, self.prefix, self._storage = top, prefix, storage
        self.runtime = top / "vc-runtime"
        self.records = top / "records"
        self.environment = {**environment, "CONTAINERS_CONF": str(top / "containers.conf")}
        self._options = [*options, "--root", str(storage), "--storage-driver", driver]
        self._options += ["--cgroup-manager", "cgroupfs", "--events-backend", "file", "--runtime", str(self.runtime)]

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of podman with these arguments, to be run in ``environment``."""
        return [*self.prefix, "podman", *self._options, *arguments]

    def run(self, *arguments: str, given: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run podman and return what it wrote. Fails the test where podman fails, unless ``check`` is false."""
        done = subprocess.run(
            self.command(*arguments),
            env=self.environment,
            cwd=self.top,
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
        subprocess.run(["umount", str(self._storage / "overlay")], capture_output=True)

    def _cleaning(self) -> bool:
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdecimal() else []
                if b"cleanup" in words and os.fsencode(self._storage) in words and b"conmon" not in words[0]:
                    return True
        return False

    def recorded(self) -> list[Path]:
        """Return the directories of the runtime's containers; beside them are the programs of seccomp profiles."""
        return [one for one in self.records.iterdir() if one.name != ":seccomp"]

    def __call__(self, *arguments: str) -> str:
        """Run podman and return its output, without the line break at its end."""
        return self.run(*arguments).stdout.rstrip("\n")

    def remove_all(self) -> None:
        """Remove all pods and containers."""
        self.run("pod", "rm", "--all", "--force", "--time", "0", check=False)
        self.run("rm", "--all", "--force", "--time", "0", check=False)


@contextmanager
def podman(top: Path, driver: str = "overlay") -> Iterator[Podman]:
    """Make a podman of root below a directory; all of its containers are removed at the end.

    ``driver``: what its storage makes root file systems of.
    """
    for name in ("root", "net", "records"):
        (top / name).mkdir()
    (top / "containers.conf").write_text(_CONTAINERS_CONF, encoding="utf-8")
    _make_runtime(top, f"--root {top}/records", f"VIRTCONTAINERS_ROOT={top}/vc")
    with (
        TemporaryDirectory(prefix="vc-", dir="/tmp", ignore_cleanup_errors=True) as run,  # podman wants a short name
        subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec sleep 100000"], stdout=subprocess.PIPE) as holder,
    ):
        assert holder.stdout is not None
        holder.stdout.readline()
        own = ["--runroot", run, "--tmpdir", run, "--network-config-dir", str(top / "net")]
        prefix = ["nsenter", f"--net=/proc/{holder.pid}/ns/net"]
        made = Podman(top, prefix, top / "root", own, driver=driver)
        try:
            subprocess.run([*made.prefix, "ip", "link", "set", "lo", "up"], check=True)
            _make_image(made)
            yield made
        finally:
            made.remove_all()
            holder.kill()
            made.wait_cleaned()


@contextmanager
def podman_of(user: PlainUser) -> Iterator[Podman]:
    """Make a podman of a plain user in the usual places; all of its containers are removed at the end."""
    (user.home / "containers.conf").write_text('[network]\nfirewall_driver = "iptables"\n', encoding="utf-8")
    _make_runtime(user.home)
    made = Podman(
        user.home, user.command(), user.home / ".local/share/containers/storage", environment=user.environment
    )
    user.own(user.home)
    try:
        _make_image(made)
        yield made
    finally:
        made.remove_all()
        made.wait_cleaned()
        made.run("system", "migrate")  # which ends the process that keeps the namespaces of the user's podman


def _make_runtime(top: Path, options: str = "", variables: str = "") -> None:
    """Make the runtime command: podman passes almost nothing of its environment on.

    If there is a program ``before``, it gets the arguments first.
    """
    (top / "vc-runtime").write_text(
        f"#!/bin/sh\nexport {variables} VIRTCONTAINERS_TEMPLATES=existing\n"
        f'[ ! -x {top}/before ] || {top}/before "$@"\n'
        f'exec {sys.executable} -m vc_runtime {options} "$@"\n',
        encoding="utf-8",
    )
    (top / "vc-runtime").chmod(0o755)


def _make_image(podman: Podman) -> None:
    archive = podman.top / "image.tar"
    make_rootfs(podman.top / "rootfs")
    make_archive(podman.top / "rootfs", archive)
    archive.chmod(0o644)
    podman("import", str(archive), IMAGE)
