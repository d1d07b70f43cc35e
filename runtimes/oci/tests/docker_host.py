"""docker with directories, a network and containers of its own, so that tests meet nothing of the host's."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine_host import Host, daemon, host, make_archive, make_rootfs

IMAGE = "busybox:test"


class Docker:
    """One docker daemon, whose containers are in VMs unless --runtime says other."""

    def __init__(self, place: Host) -> None:
        self.host = place
        self._socket = f"unix://{place.top}/docker.sock"

    def command(self, *arguments: str | Path) -> list[str]:
        """Return the command line of docker with these arguments."""
        return self.host.command("docker", "--host", self._socket, *arguments)

    def run(self, *arguments: str | Path, given: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run docker and return what it wrote. Fails the test where docker fails, unless ``check`` is false."""
        return self.host.run("docker", "--host", self._socket, *arguments, given=given, check=check)

    def __call__(self, *arguments: str | Path, given: str = "") -> str:
        """Return the standard output of docker, without the end of its last line."""
        return self.run(*arguments, given=given).stdout.rstrip("\n")


@contextmanager
def made_docker(top: Path, storage_driver: str = "overlay2") -> Iterator[Docker]:
    """Run docker for the block, with an image that is made here."""
    with host(top) as place:
        made = Docker(place)
        make_rootfs(top / "rootfs")
        make_archive(top / "rootfs", top / "layer.tar")
        config = {
            "data-root": f"{top}/data",
            "exec-root": f"{top}/exec",
            "storage-driver": storage_driver,
            "pidfile": f"{top}/pid",
            "hosts": [f"unix://{top}/docker.sock"],
            "runtimes": {"vc": {"path": str(place.runtime)}},
            "default-runtime": "vc",
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            "cgroup-parent": f"/{place.cgroup}",
            "bip": "10.88.78.1/24",
        }
        (top / "daemon.json").write_text(json.dumps(config), encoding="utf-8")
        command = place.command("dockerd", "--config-file", top / "daemon.json")
        try:
            with daemon(command, top / "log", lambda: made.run("version", check=False).returncode == 0):
                made("import", top / "layer.tar", IMAGE)
                made.run("run", "--rm", "--network", "host", IMAGE, "true", check=False)  # it mounts exec/netns/default
                try:
                    yield made
                finally:
                    if left := made("ps", "--all", "--quiet").split():
                        made("rm", "--force", *left)
        finally:
            for mount in ("exec/netns/default", "data"):  # which the daemon leaves mounted
                subprocess.run(["umount", str(top / mount)], capture_output=True)
