"""Runs in a guest, as root of a container that may mount: limits directories of disks, and prints what happens.

``python3 quota_in_guest.py FSTYPE=ADDRESS...``, with the SCSI addresses of disks, prints an object with one for each.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

from vc_core.config.container import ContainerConfig, Mount
from vc_core.host import quota

POD, MIB = "pod", 1 << 20

#: More directories inside each other than files that this process may have open.
DEPTH, OPEN_MAX = 200, 64

#: What writes is, as the VM of a pod, root of a user namespace only.
CONFINED = ("/usr/bin/unshare", "--user", "--map-root-user")

ENDS = {"No space left on device": "full", "Disk quota exceeded": "full"}


def run(*arguments: str | Path) -> None:
    subprocess.run(arguments, check=True)


def mount_disk(top: Path, fstype: str, address: str) -> None:
    """Mount a SCSI disk, whose device file only a file system of the container's own lets it open."""
    (block,) = Path("/sys/class/scsi_disk").glob(f"*:{address}/device/block/*")
    major, minor = map(int, (block / "dev").read_text(encoding="ascii").split(":"))
    devices = Path(f"{top}-device")
    devices.mkdir()
    top.mkdir()
    run("mount", "-t", "tmpfs", "none", devices)
    os.mknod(devices / "disk", 0o60600, os.makedev(major, minor))
    run("mount", "-t", fstype, "-o", "prjquota", devices / "disk", top)


def ended(*command: str | Path) -> str:
    """Run a command as the VM of a pod runs; return how it ended."""
    done = subprocess.run([*CONFINED, *command], stderr=subprocess.PIPE, encoding="utf-8", env={"LC_ALL": "C"})
    if done.returncode == 0:
        return "written"
    return ENDS.get(done.stderr.splitlines()[0].rpartition(": ")[2], done.stderr)


def written(path: Path, mib: int) -> str:
    return ended("/usr/bin/dd", "if=/dev/zero", f"of={path}", "bs=64k", f"count={16 * mib}", "conv=fsync")


def projects(*paths: Path) -> list[str]:
    """Return whether each file has the id of a limit."""
    done = subprocess.run(["/usr/bin/lsattr", "-pd", *paths], stdout=subprocess.PIPE, encoding="utf-8", check=True)
    return ["free" if line.split()[0] == "0" else "limited" for line in done.stdout.splitlines()]


class Tried:
    """Limits of directories on one disk."""

    def __init__(self, top: Path) -> None:
        self.top, self.limited, self.sibling = top, top / "limited", top / "sibling"
        self.container = ContainerConfig(id="c", mounts=[Mount(str(self.limited), "/data", False, size=4)])

    def limit(self, directory: Path, number: int = 0, confined: bool = True, stopped: bool = False) -> str:
        """Limit a directory to 4 MiB for the container's mount with a number; return why that is not possible."""
        stop = threading.Event()
        if stopped:
            stop.set()
        fd = os.open(directory, os.O_PATH)
        try:
            return quota.limit(fd, quota.owner(POD, self.container.id, number), 4, confined, stop)
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        finally:
            os.close(fd)

    def held(self) -> float:
        """Return the MiB on the disk of what is in the limited directory."""
        return sum(path.lstat().st_blocks for path in self.limited.glob("a/**/*")) * 512 / MIB

    def facts(self) -> dict[str, object]:
        limited, sibling, deep = self.limited, self.sibling, self.limited.joinpath("a", *["b"] * DEPTH)
        old, new, empty = deep / "old", deep / "new", deep / "empty"
        for directory in (deep, empty, sibling, limited / "mounted"):
            directory.mkdir(parents=True)
        old.write_bytes(b"x" * MIB)
        (sibling / "linked").touch()
        (deep / "link").symlink_to(sibling / "linked")
        run("mount", "--bind", sibling, limited / "mounted")
        facts: dict[str, object] = {}
        facts["unconfined"] = self.limit(limited, confined=False)
        quota.lift(self.container, POD)

        facts["stopped"] = [self.limit(limited, stopped=True), *projects(limited, old)]
        facts["limit"] = self.limit(limited)
        facts["fill"] = [written(new, 8), 3 < self.held() <= 4]
        facts["escape"] = [ended("/usr/bin/chattr", "-p", "0", new), *projects(new)]
        facts["tree"] = projects(limited, deep, old, new)
        facts["sibling"] = [written(sibling / "new", 8), *projects(sibling, sibling / "linked", sibling / "new")]
        new.unlink()
        names = [empty / str(number) for number in range(1100)]
        facts["files"] = [ended("/usr/bin/touch", *names), 700 < len(list(empty.iterdir())) < 1024]
        facts["again"] = self.limit(limited)
        facts["other"] = self.limit(limited, number=1)
        facts["above"] = [self.limit(self.top, number=1), *projects(self.top, sibling, limited)]

        moved = self.top / "moved"
        old.rename(moved)
        quota.lift(self.container, POD)
        facts["lifted"] = [*projects(limited, deep, *names[:1]), written(new, 8)]
        facts["kept"] = [moved.read_bytes() == b"x" * MIB, (deep / "link").readlink() == sibling / "linked"]
        facts["moved"] = [written(moved, 8), *projects(moved), self.limit(self.top), *projects(moved, new)]
        return facts


def main(disks: list[str]) -> dict[str, object]:
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_MAX, OPEN_MAX))
    found: dict[str, object] = {}
    for disk in disks:
        fstype, _, address = disk.partition("=")
        top = Path("/disks") / fstype
        top.parent.mkdir(exist_ok=True)
        mount_disk(top, fstype, address)
        found[fstype] = Tried(top).facts()
    return found


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))
