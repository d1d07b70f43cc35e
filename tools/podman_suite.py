"""Runs podman's own system tests with vc-runtime and with runc, and prints a table of both.

Usage: python tools/podman_suite.py [--only RUNTIME] [NUMBER...], as root. NUMBER: of a file of tests, such as 045.

The tests are those of Debian's source package of the podman that is installed; Debian's bats runs them, in a network
namespace and with directories of their own below .cache/podman-suite. Their image is made of busybox, because there is
no registry: what needs one fails with both runtimes. The output of each file of tests is kept beside.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

PLACE = Path(__file__).parents[1] / ".cache/podman-suite"

#: The files of tests that are run by default: starts and ends of containers, commands, pods and Kubernetes' files.
NUMBERS = ("030", "045", "050", "075", "080", "130", "200", "700")

#: The image that the tests pull (test/system/helpers.bash of podman 4.3).
IMAGE = "quay.io/libpod/testimage:20220615"

#: What podman's build-testimage makes of it, as changes of an imported file system.
CHANGES = (
    "WORKDIR=/home/podman",
    'CMD ["/bin/echo", "This container is intended for podman CI testing"]',
    "LABEL created_by=test/system/build-testimage",
    "LABEL created_at=2022-06-15T00:00:00Z",
    "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
)

#: Files of Alpine Linux, of which the tests' image is made, and of podman's build-testimage, that tests look at.
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nbin:x:1:1:bin:/bin:/sbin/nologin\n"
    "sync:x:5:0:sync:/sbin:/bin/sync\nmail:x:8:12:mail:/var/mail:/sbin/nologin\n"
    "games:x:35:35:games:/usr/games:/sbin/nologin\nguest:x:405:100:guest:/dev/null:/sbin/nologin\n"
    "nobody:x:65534:65534:nobody:/:/sbin/nologin\n",
    "etc/group": "root:x:0:root\nbin:x:1:root,bin\nmail:x:12:mail\ngames:x:35:\nusers:x:100:games\nnobody:x:65534:\n",
    "etc/os-release": 'NAME="Alpine Linux"\nID=alpine\nVERSION_ID=3.16.0\n',
    "etc/alpine-release": "3.16.0\n",
    "etc/hosts": "127.0.0.1\tlocalhost localhost.localdomain\n",
    "etc/hostname": "localhost\n",
    "home/podman/testimage-id": "20220615\n",
}
PROGRAMS = {
    "home/podman/pause": "#!/bin/sh\necho Confirmed: testimage pause invoked as $0\nwhile :; do sleep 0.1; done\n",
    "bin/printenv": '#!/bin/sh\n[ $# = 0 ] && exec env\neval "echo \\"\\$$1\\""\n',
}
LINKS = {"etc/mtab": "/proc/mounts", "bin/busybox-extras": "busybox", "usr/bin/nsenter": "/bin/busybox"}
FOLDERS = (
    "dev",
    "lib",
    "media",
    "mnt",
    "opt",
    "proc",
    "root",
    "run",
    "sbin",
    "srv",
    "sys",
    "usr/bin",
    "usr/sbin",
    "var/log",
)

#: podman raises limits above those of this process, which not every root may. Soft and hard values are equal, because
#: its `kube play` mistakes one for the other.
CONFIGURATION = """\
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=2048:2048"]
[network]
firewall_driver = "iptables"
[engine]
runtime = "{runtime}"
[engine.runtimes]
vc = ["{program}"]
"""

#: Seconds for one file of tests.
TIMEOUT = 3600.0

#: A line of the Test Anything Protocol: what became of a test, and its name.
RESULT = re.compile(r"(ok|not ok) (\d+) (.*?) in \d+ms(?: # (skip).*)?")


def main() -> int:
    """Run the tests and print the table; return 0 if vc-runtime passes what runc does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("vc", "runc"), help="run one of the two, and compare with earlier results")
    parser.add_argument("numbers", nargs="*", default=NUMBERS, metavar="NUMBER", help="of a file of tests")
    given = parser.parse_args()
    PLACE.mkdir(parents=True, exist_ok=True)
    tests = fetch() / "test/system"
    for runtime in [given.only] if given.only else ["runc", "vc"]:
        run(runtime, tests, given.numbers)
    return report(given.numbers)


def fetch() -> Path:
    """Return the unpacked source of the podman that is installed."""
    version = output("dpkg-query", "--show", "--showformat", "${source:Version}", "podman")
    place = PLACE / f"libpod-{version}"
    if not place.exists():
        with tempfile.TemporaryDirectory(dir=PLACE) as folder:
            work = Path(folder)
            options = [*source_options(work), "-o", "Debug::NoLocking=1"]
            subprocess.run(["apt-get", *options, "update", "-qq"], check=True)
            command = ["apt-get", *options, "source", "--download-only", "-qq", f"libpod={version}"]
            subprocess.run(command, cwd=work, check=True)
            (archive,) = work.glob("libpod_*.orig.tar.*")
            (work / "source").mkdir()
            subprocess.run(["tar", "-C", str(work / "source"), "--strip-components=1", "-xf", str(archive)], check=True)
            (work / "source").rename(place)
    return place


def source_options(work: Path) -> list[str]:
    """Return options of apt-get with which it reads the sources of the packages that this host installs."""
    lines = output("apt-get", "indextargets", "--format", "$(SITE) $(RELEASE) $(COMPONENT)", "Created-By: Packages")
    sources = {" ".join(line.split()) for line in lines.splitlines()}
    (work / "lists/partial").mkdir(parents=True)
    file = work / "sources.list"
    file.write_text("".join(f"deb-src {one}\n" for one in sorted(sources)), encoding="utf-8")
    places = {"Dir::Etc::sourcelist": file, "Dir::Etc::sourceparts": "-", "Dir::State::lists": work / "lists"}
    return [word for name, value in places.items() for word in ("-o", f"{name}={value}")]


def output(*command: str) -> str:
    """Return what a command prints."""
    return subprocess.run(command, capture_output=True, check=True, encoding="utf-8").stdout.strip()


def run(runtime: str, tests: Path, numbers: Sequence[str]) -> None:
    """Run files of tests with a runtime; what each prints is written to a log."""
    top = PLACE / runtime
    for name in ("root", "tmp"):  # of the run before, whose sockets were elsewhere
        shutil.rmtree(top / name, ignore_errors=True)
    for name in ("net", "tmp", "logs"):
        (top / name).mkdir(parents=True, exist_ok=True)
    program = script(
        top / "vc",
        f"export VIRTCONTAINERS_ROOT={top}/pods",
        f'exec {sys.executable} -m vc_runtime --root {top}/records "$@"',
    )
    configuration = CONFIGURATION.format(runtime=runtime, program=program)
    (top / "containers.conf").write_text(configuration, encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="vc-", ignore_cleanup_errors=True) as sockets:  # podman wants a short name
        podman = script(
            top / "podman",
            f"exec podman --root {top}/root --runroot {sockets} --tmpdir {sockets} --network-config-dir {top}/net"
            ' --storage-driver overlay --cgroup-manager cgroupfs --events-backend file "$@"',
        )
        variables = [f"CONTAINERS_CONF={top}/containers.conf", f"PODMAN={podman}", f"TMPDIR={top}/tmp"]
        inside = ["unshare", "--net", "env", *variables]
        changes = [word for one in CHANGES for word in ("--change", one)]
        subprocess.run([*inside, str(podman), "import", "--quiet", *changes, str(make_image(top)), IMAGE], check=True)
        for number in numbers:
            (file,) = tests.glob(f"{number}-*.bats")
            print(f"{runtime}: {file.stem} ... ", end="", flush=True)
            command = [*inside, "sh", "-c", 'ip link set lo up; exec "$@"', "sh", "bats", "--timing", str(file)]
            with (top / f"logs/{number}").open("wb") as log:
                subprocess.run(command, cwd=tests.parents[1], stdout=log, stderr=log, timeout=TIMEOUT, check=False)
            passed = [state for state, _ in results(runtime, number).values()]
            print(f"{passed.count(True)} of {len(passed)}")
        subprocess.run(["umount", str(top / "root/overlay")], capture_output=True, check=False)


def script(path: Path, *lines: str) -> Path:
    """Write a shell script."""
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]), encoding="utf-8")
    path.chmod(0o755)
    return path


def make_image(top: Path) -> Path:
    """Return an archive of a file system as the image of the tests has it."""
    busybox = shutil.which("busybox")
    assert busybox is not None, "install the Debian package busybox-static"
    with tempfile.TemporaryDirectory(dir=top) as folder:
        root = Path(folder)
        root.chmod(0o755)
        for name in FOLDERS:
            (root / name).mkdir(parents=True)
        for name in ("tmp", "var/tmp"):
            (root / name).mkdir()
            (root / name).chmod(0o1777)
        for name, text in {**FILES, **PROGRAMS}.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text, encoding="utf-8")
            (root / name).chmod(0o755 if name in PROGRAMS else 0o644)
        (root / "bin").mkdir(exist_ok=True)
        shutil.copy(busybox, root / "bin/busybox")
        for applet in output(busybox, "--list").split():
            if applet != "busybox":
                (root / "bin" / applet).symlink_to("busybox")
        for name, target in LINKS.items():
            (root / name).symlink_to(target)
        # The time that a test of time zones expects (build-testimage).
        subprocess.run(["touch", "--date=@1600000000", str(root / "home/podman/testimage-id")], check=True)
        archive = top / "image.tar"
        subprocess.run(
            ["tar", "-C", folder, "--owner=0", "--group=0", "--numeric-owner", "-cf", str(archive), "."], check=True
        )
    return archive


def results(runtime: str, number: str) -> dict[str, tuple[bool, str]]:
    """Return of each test, by its number and name, whether it passed, and "skip" if it was skipped."""
    try:
        lines = (PLACE / runtime / f"logs/{number}").read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    found = filter(None, map(RESULT.fullmatch, lines))
    return {f"{number}.{one[2]} {one[3].strip()}": (one[1] == "ok", one[4] or "") for one in found}


def report(numbers: Sequence[str]) -> int:
    """Print a table of all files, and the tests that one runtime passes and the other does not."""
    print("\n| file | tests | runc passes | of these vc-runtime passes |\n|---|---|---|---|")
    differences: list[str] = []
    for number in numbers:
        runc, vc = results("runc", number), results("vc", number)
        passed = {name for name, (ok, _) in runc.items() if ok}
        both = {name for name in passed if vc.get(name, (False, ""))[0]}
        print(f"| {number} | {len(runc)} | {len(passed)} | {len(both)} |")
        differences += sorted_tests(passed - both)
        differences += [f"{name} (passes only with vc-runtime)" for name in sorted_tests(_passed(vc) - passed)]
    for name in differences:
        print(f"* {name}")
    return 1 if any("only with" not in name for name in differences) else 0


def _passed(found: dict[str, tuple[bool, str]]) -> set[str]:
    return {name for name, (ok, _) in found.items() if ok}


def sorted_tests(names: set[str]) -> Iterator[str]:
    """Yield names of tests in their order."""
    yield from sorted(names, key=lambda name: (name[:3], int(name.partition(" ")[0][4:])))


if __name__ == "__main__":
    sys.exit(main())
