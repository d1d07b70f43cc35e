"""Which host paths a guest may not see, or not write to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import vc_core as vc
from vc_core.errors import ConfigError
from vc_core.host import sources
from vc_core.host.paths import Rules
from vc_core.store.roots import Roots


def config(root_fs: Path, source: str, read_only: bool = True) -> vc.ContainerConfig:
    mount = vc.Mount(source, "/mnt", read_only)
    return vc.ContainerConfig(id="c", root_fs=str(root_fs), cmd=vc.Cmd(args=["ls"]), mounts=[mount])


def check(config: vc.ContainerConfig, roots: Roots) -> None:
    sources.check_container(config, Rules(roots))


@pytest.fixture
def root_fs(tmp_path: Path) -> Path:
    (tmp_path / "rootfs/bin").mkdir(parents=True)
    return tmp_path / "rootfs"


@pytest.mark.parametrize("source", ["/", "/proc", "/proc/self", "/sys/kernel", "/dev", "/dev/null", "/dev/shm/.."])
@pytest.mark.parametrize("read_only", [True, False])
def test_interfaces_of_the_kernel_are_never_shown(root_fs: Path, roots: Roots, source: str, read_only: bool) -> None:
    with pytest.raises(ConfigError, match="mount of container 'c'"):
        check(config(root_fs, source, read_only), roots)


@pytest.mark.parametrize("source", ["/etc", "/usr/bin", "/boot"])
def test_what_the_host_runs_on_may_be_read_but_not_written(root_fs: Path, roots: Roots, source: str) -> None:
    check(config(root_fs, source), roots)
    with pytest.raises(ConfigError, match="never written by a guest"):
        check(config(root_fs, source, read_only=False), roots)


def test_a_link_does_not_hide_where_it_leads(root_fs: Path, roots: Roots, tmp_path: Path) -> None:
    (tmp_path / "harmless").symlink_to("/")
    with pytest.raises(ConfigError, match="never shown to a guest"):
        check(config(root_fs, str(tmp_path / "harmless")), roots)


def test_our_own_state_is_never_shown_nor_what_holds_it(root_fs: Path, roots: Roots, tmp_path: Path) -> None:
    for path in (roots.state, roots.run / "pods", roots.cache / "guests"):
        path.mkdir(parents=True, exist_ok=True)
    for source in (roots.state, roots.run / "pods", roots.cache, roots.cache / "guests", tmp_path):
        with pytest.raises(ConfigError, match="never shown to a guest"):
            check(config(root_fs, str(source)), roots)


def test_what_is_not_there_is_named(root_fs: Path, roots: Roots, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nope"):
        check(config(root_fs, str(tmp_path / "nope")), roots)


@pytest.mark.parametrize("root", ["/", "/proc", "/sys/kernel", "/dev", "state", "cache"])
def test_a_root_file_system_is_under_the_rules_of_what_is_read(roots: Roots, root: str) -> None:
    for path in (roots.state, roots.cache):
        (path / "file").mkdir(parents=True, exist_ok=True)
    text = str(getattr(roots, root)) if root in ("state", "cache") else root
    with pytest.raises(ConfigError, match=r"rootfs of container 'c': .* never shown to a guest"):
        check(vc.ContainerConfig(id="c", root_fs=text, cmd=vc.Cmd(args=["ls"])), roots)
    with pytest.raises(ConfigError, match=r"rootfs of the pod: .* never shown to a guest"):
        sources.open_pod(vc.PodConfig(root_fs=text), Rules(roots))


#: Binds each directory of argv on one without a telling name, and prints what becomes of a mount of that.
_ALIASES = """
import os, sys
from pathlib import Path
import vc_core as vc
from vc_core.errors import ConfigError
from vc_core.host import mounts, sources
from vc_core.host.paths import Rules
from vc_core.store.roots import Roots

root_fs, alias = sys.argv[1:3]
for place in sys.argv[3:]:
    source = os.open(place, os.O_PATH)
    mounts.bind(source, Path(alias))
    config = vc.ContainerConfig(
        id="c", root_fs=root_fs, cmd=vc.Cmd(args=["ls"]), mounts=[vc.Mount(alias, "/mnt", read_only=False)]
    )
    try:
        sources.check_container(config, Rules(Roots.from_environment()))
        print("allowed")
    except ConfigError as error:
        print(error)
    mounts.unmount(Path(alias))
"""


@pytest.mark.root
@pytest.mark.needs("mount namespaces")
def test_a_bind_mount_does_not_hide_what_it_shows(root_fs: Path, roots: Roots, tmp_path: Path) -> None:
    alias = tmp_path / "alias"
    for path in (alias, roots.state / "pods", roots.cache / "guests", tmp_path / "harmless"):
        path.mkdir(parents=True, exist_ok=True)
    places = [
        "/proc/sys",
        "/sys",
        "/dev",
        "/etc",
        "/usr/bin",
        str(roots.state / "pods"),
        str(roots.cache),
        str(tmp_path),
    ]
    argv = ["unshare", "--mount", sys.executable, "-c", _ALIASES]
    argv += map(str, (root_fs, alias, *places, tmp_path / "harmless"))
    done = subprocess.run(argv, capture_output=True, encoding="utf-8")
    *refused, harmless = done.stdout.splitlines()
    assert harmless == "allowed", done.stderr
    assert len(refused) == len(places)
    for line in refused:
        assert "never written by a guest" in line


#: Mounts each directory of argv in a volume, and prints what becomes of it.
_MOUNTED_BELOW = """
import os, sys
from pathlib import Path
from vc_core.driver import SharedDirectory
from vc_core.errors import ConfigError
from vc_core.host import mounts, sources
from vc_core.host.paths import Rules
from vc_core.store.roots import Roots

volume = Path(sys.argv[1])
for place in sys.argv[2:]:
    mounts.bind(os.open(place, os.O_PATH), volume / "below")
    try:
        sources.open_volumes([SharedDirectory("t", volume)], Path("/nowhere"), Rules(Roots.from_environment()))
        print("allowed")
    except ConfigError as error:
        print(error)
    mounts.unmount(volume / "below")
"""


@pytest.mark.root
@pytest.mark.needs("mount namespaces")
def test_a_volume_is_refused_if_something_forbidden_is_mounted_in_it(roots: Roots, tmp_path: Path) -> None:
    """A volume, unlike a mount, is shared with what is mounted below it."""
    volume, harmless = tmp_path / "volume", tmp_path / "harmless"
    for path in (volume / "below", harmless, roots.state):
        path.mkdir(parents=True)
    argv = ["unshare", "--mount", sys.executable, "-c", _MOUNTED_BELOW]
    argv += map(str, (volume, "/proc", "/dev", roots.state, harmless))
    done = subprocess.run(argv, capture_output=True, encoding="utf-8")
    *refused, allowed = done.stdout.splitlines()
    assert allowed == "allowed", done.stderr
    assert len(refused) == 3
    for line in refused:
        assert f"holds the mount '{volume}/below'" in line
