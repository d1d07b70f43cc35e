"""Skips tests that need what this host does not have; a pytest plugin of this repository.

The markers ``root``, ``vm``, ``network`` and ``needs`` name what a test needs. The reason of a skip names what is
missing and, where there is one, the Debian package to install. What is found is kept for one session only.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from libvirt_daemon import DAEMON
from vc_core.errors import VCError
from vc_core.plugins.registry import Plugins

#: Where Debian puts programs for administrators, which a user's PATH leaves out.
SBIN = "/usr/sbin:/sbin"

#: Programs that tests run, and the Debian packages that hold them.
PROGRAMS = {
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
    "apt-get": "apt",
    "bash": "bash",
    "busybox": "busybox-static",
    "catatonit": "catatonit",
    "cc": "gcc libc6-dev",
    "containerd": "containerd",
    "cpio": "cpio",
    "dash": "dash",
    "docker-registry": "docker-registry",
    "dockerd": "docker.io",
    "e2fsck": "e2fsprogs",
    "fish": "fish",
    "gcc": "gcc libc6-dev",
    "groff": "groff-base",
    "ip": "iproute2",
    "libvirtd": "libvirt-daemon libvirt-daemon-driver-qemu",
    "linux.uml": "user-mode-linux",
    "losetup": "mount",
    "mke2fs": "e2fsprogs",
    "mkfs.erofs": "erofs-utils",
    "mkfs.ext4": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "mksquashfs": "squashfs-tools",
    "musl-gcc": "musl-tools",
    "newuidmap": "uidmap",
    "nsenter": "util-linux",
    "podman": "podman conmon runc netavark iptables",
    "qemu-img": "qemu-utils",
    "qemu-system-aarch64": "qemu-system-arm",
    "readelf": "binutils",
    "shellcheck": "shellcheck",
    "skopeo": "skopeo",
    "slirp4netns": "slirp4netns",
    "slurmctld": "slurm-wlm",
    "sshd": "openssh-server",
    "strace": "strace",
    "tc": "iproute2",
    "umoci": "umoci",
    "unshare": "util-linux",
    "virsh": "libvirt-clients",
    "zsh": "zsh",
}

#: The package that tests fetch to find out whether there is a package index; the build back end of this repository.
_FROM_INDEX = "hatchling"

#: Seconds for one question to the host, and for fetching that package.
_TIMEOUT, _INDEX_TIMEOUT = 30.0, 120.0


def _device(path: str, hint: str) -> str:
    if not os.access(path, os.R_OK | os.W_OK):
        return f"{path} cannot be opened; {hint}" if Path(path).exists() else f"{path} is missing; {hint}"
    return ""


def _runs(*command: str) -> bool:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _loop_devices() -> str:
    return _device("/dev/loop-control", "run as root, with the module loop loaded")


def _cni() -> str:
    found = Path("/usr/lib/cni/bridge").exists()
    return "" if found else "the plug-ins of CNI are missing; install containernetworking-plugins"


def _tun() -> str:
    return _device("/dev/net/tun", "run as root, with the module tun loaded")


def _libseccomp() -> str:
    try:
        ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return "libseccomp.so.2 is not installed; on Debian: apt install libseccomp2"
    return ""


def _user_namespaces() -> str:
    return "" if _runs("unshare", "--user", "true") else "the kernel allows this user no user namespace, as in a chroot"


def _mount_namespaces() -> str:
    return "" if _runs("unshare", "--mount", "true") else "the kernel allows this user no mount namespace; run as root"


def _cgroup_v2() -> str:
    if (place := cgroup_v2()) is None:
        return "no control group file system of version 2 is mounted"
    if not os.access(place, os.W_OK):
        return f"control groups cannot be made in {str(place)!r}; run as root"
    return ""


@functools.cache
def missing_hypervisor(name: str) -> str:
    """Return what keeps a hypervisor's driver from working on this host, "" if nothing."""
    if name == "libvirt" and (why := DAEMON.start()):
        return why
    try:
        return "; ".join(Plugins().hypervisor(name).probe())
    except VCError as error:
        return str(error)


#: What is not a program: a function that returns what is missing, "" if nothing.
FEATURES: dict[str, Callable[[], str]] = {
    "/dev/net/tun": _tun,
    "CNI plug-ins": _cni,
    "cgroup v2": _cgroup_v2,
    "libvirt": lambda: missing_hypervisor("libvirt"),
    "loop devices": _loop_devices,
    "mount namespaces": _mount_namespaces,
    "qemu": lambda: missing_hypervisor("qemu"),
    "uml": lambda: missing_hypervisor("uml"),
    "libseccomp": _libseccomp,
    "user namespaces": _user_namespaces,
}


def cgroup_v2(mounts: Path = Path("/proc/self/mountinfo")) -> Path | None:
    """Return where control groups of version 2 are mounted: hybrid hosts have them at /sys/fs/cgroup/unified."""
    for line in mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")  # proc(5), /proc/pid/mountinfo
        if after.split(" ")[0] == "cgroup2":
            return Path(before.split(" ")[4])
    return None


@functools.cache
def missing(need: str) -> str:
    """Return what this host lacks of a need, "" if nothing. Raises ValueError for a need that is in no table."""
    if need in FEATURES:
        return FEATURES[need]()
    if need not in PROGRAMS:
        raise ValueError(f"{need!r} is neither in PROGRAMS nor in FEATURES of {__file__}")
    if shutil.which(need, path=f"{os.environ.get('PATH', os.defpath)}:{SBIN}"):
        return ""
    return f"{need} is not installed; on Debian: apt install {PROGRAMS[need]}"


@functools.cache
def missing_index() -> str:
    """Return why pip can fetch nothing from a package index, "" if it can."""
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", directory, _FROM_INDEX]
        try:
            done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=_INDEX_TIMEOUT)
        except subprocess.TimeoutExpired:
            return f"the package index does not answer within {_INDEX_TIMEOUT:g} s"
    if done.returncode == 0:
        return ""
    return f"pip cannot fetch {_FROM_INDEX}: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}"


def require(*needs: str) -> None:
    """Skip the test that runs unless the host has these; for fixtures, instead of the marker at each of their tests."""
    if reasons := list(filter(None, map(missing, needs))):
        pytest.skip("; ".join(reasons))


def _missing(item: pytest.Item) -> Iterator[str]:
    """Yield what this host lacks of what a test needs."""
    if item.get_closest_marker("root") and os.geteuid() != 0:
        yield "it needs root"
    for marker in item.iter_markers("vm"):
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        for name in marker.args or [parameters.get("hypervisor", "qemu")]:
            yield missing_hypervisor(name)
    for marker in item.iter_markers("needs"):
        yield from map(missing, marker.args)
    if item.get_closest_marker("network"):
        yield missing_index()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test before its fixtures are set up; fixtures of wider scope need what their tests need."""
    if reasons := list(dict.fromkeys(filter(None, _missing(item)))):
        pytest.skip("; ".join(reasons))


@pytest.fixture(autouse=True, scope="session")
def programs_for_administrators() -> Iterator[None]:
    """Let tests of a user run programs of /usr/sbin, mke2fs among them, which Debian leaves out of a user's PATH."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{os.environ.get('PATH', os.defpath)}:{SBIN}")
        yield


#: The session that ends the daemon; some tests run pytest in their own process.
_sessions: list[pytest.Config] = []


def pytest_configure(config: pytest.Config) -> None:
    """Look at the host anew in each session."""
    _sessions.append(config)
    for one in (missing, missing_hypervisor, missing_index):
        one.cache_clear()


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the daemon at the end of the outermost session."""
    if _sessions.pop() is config and not _sessions:
        DAEMON.stop()
