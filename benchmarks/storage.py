"""Throughput of the file systems that a container writes to, with the same work on the host's own as comparison."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import vc_core as vc
from benchmarks.frame import Plot, Section
from benchmarks.markdown import paragraph, table
from benchmarks.plots import Bars, bars
from benchmarks.world import EMULATED, World, busybox

ROUNDS = 3

#: MiB of the one file, number of small files, bytes of each of these.
MIB, FILES, SMALL = 64, 500, 4096

#: MiB of the block device.
_DISK = 256

#: Runs a script with the guest's own page cache dropped, and returns the seconds that the script took.
Place = Callable[[str], float]


@dataclass(frozen=True)
class Work:
    """One kind of work: a script for busybox in the directory to measure, its amount, and the unit of its rate."""

    title: str
    script: str
    amount: int
    unit: str


#: The shell itself writes the small files: a process for each would be most of the work.
_WRITE_SMALL = f"""text=$(busybox head -c {SMALL} /dev/zero | busybox tr '\\0' x)
busybox mkdir small
number=0
while [ $number -lt {FILES} ]; do echo -n $text >small/$number; number=$((number + 1)); done"""

#: In this order: what is read was written before, and each round begins without files.
WORKS = (
    Work("write a file", f"busybox dd if=/dev/zero of=big bs=1M count={MIB} conv=fsync 2>/dev/null", MIB, "MiB/s"),
    Work("read a file", "busybox cat big >/dev/null", MIB, "MiB/s"),
    Work("write small files", _WRITE_SMALL, FILES, "files/s"),
    Work("read small files", "busybox cat small/* >/dev/null", FILES, "files/s"),
)
_REMOVE = "busybox rm -rf big small"

#: Writes what the guest's kernel has cached to the disk, and drops it.
_DROP = vc.Cmd(args=["/bin/busybox", "sh", "-c", "/bin/busybox sync; echo 3 >/proc/sys/vm/drop_caches"])


def _storage(world: World) -> Iterator[str | Plot]:
    with _places(world) as places:
        rates = _rates(places)
    yield paragraph(f"""
        A container writes and reads one file of {MIB} MiB and {FILES} files of {SMALL >> 10} KiB: in a writable
        mount, which is a 9p share, and on a disk of its own, an ext4 in an image file. The host does it with the same
        busybox in the file system that holds both. Rates are medians of {ROUNDS} rounds, and contain the start of one
        command. The file's write ends with an fsync; the small files are written without one. Before each work the
        guest's cache is dropped; the host's is warm.""")
    rows = [[f"{work.title}, {work.unit}", *(f"{rates[place][work.title]:,.0f}" for place in places)] for work in WORKS]
    yield table(["", *places], rows)
    groups = [f"{work.title}\n{work.unit}" for work in WORKS]
    series = [Bars(place, [rates[place][work.title] for work in WORKS]) for place in places]
    yield bars("storage", "Throughput of file systems", "MiB or files per second", groups, series)


@contextmanager
def _places(world: World) -> Iterator[dict[str, Place]]:
    """Yield what runs a script in a mount and on a disk of one pod, and on the host, by the name of the place."""
    folder = world.new_folder("storage")
    shared, host, disk = folder / "shared", folder / "host", folder / "disk.img"
    shared.mkdir()
    host.mkdir()
    root = world.bundle / "rootfs"
    shutil.copytree(root, folder / "root", symlinks=True)
    (folder / "root/data").mkdir()
    subprocess.run(
        ["/sbin/mke2fs", "-q", "-t", "ext4", "-d", str(folder / "root"), str(disk), f"{_DISK}M"],
        stdout=subprocess.DEVNULL,
        check=True,
    )
    sleep = vc.Cmd(args=["sleep", "100000"])
    mount = vc.Mount(str(shared), "/data", read_only=False)
    containers = [
        vc.ContainerConfig(id="share", root_fs=str(root), cmd=sleep, mounts=[mount]),
        vc.ContainerConfig(id="block", root_fs=str(disk), cmd=sleep, writable_root_fs=True),
    ]
    with vc.run_pod(vc.PodConfig(hypervisor_config=EMULATED, containers=containers)) as pod:

        def inside(container: str) -> Place:
            def run(script: str) -> float:
                command = vc.Cmd(args=["busybox", "sh", "-c", script], work_dir="/data")
                assert pod.enter(_DROP).exit_code == 0
                began = time.monotonic()
                assert pod.enter_container(container, command).exit_code == 0
                return time.monotonic() - began

            return run

        def outside(script: str) -> float:
            began = time.monotonic()
            subprocess.run([busybox(), "sh", "-c", script], cwd=host, check=True)
            return time.monotonic() - began

        yield {"9p share": inside("share"), "block device": inside("block"), "host": outside}


def _rates(places: Mapping[str, Place]) -> dict[str, dict[str, float]]:
    """Do all works in all places in turns; return the medians of the rates by place and title."""
    times: dict[str, dict[str, list[float]]] = {place: {work.title: [] for work in WORKS} for place in places}
    for _ in range(ROUNDS):
        for run in places.values():
            run(_REMOVE)
        for work in WORKS:
            for place, run in places.items():
                times[place][work.title].append(run(work.script))
    return {
        place: {work.title: work.amount / statistics.median(times[place][work.title]) for work in WORKS}
        for place in places
    }


SECTIONS = (Section("storage", "Throughput of shares and disks", _storage),)
