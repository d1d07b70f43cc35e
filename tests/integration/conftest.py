"""What tests with real virtual machines share: a busybox bundle, roots of their own, one pod per module."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vc_core as vc
from needs import require
from vc_core.store.roots import ROOT_VARIABLE, TEMPLATES_VARIABLE, Roots
from vc_core.store.store import Store
from vc_core.testing.slowness import scaled


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle that holds busybox, and one file that is not executable."""
    top = tmp_path_factory.mktemp("bundle")
    bin_dir = top / "rootfs/bin"
    bin_dir.mkdir(parents=True)
    require("busybox")
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy(busybox, bin_dir / "busybox")
    applets = subprocess.run([busybox, "--list"], capture_output=True, encoding="utf-8", check=True).stdout.split()
    for applet in applets:
        if applet != "busybox":
            (bin_dir / applet).symlink_to("busybox")
    for name in ("etc", "tmp"):
        (top / "rootfs" / name).mkdir()
    (top / "rootfs/etc/passwd").write_text(
        "root:x:0:0::/root:/bin/sh\nbob:x:1000:1000::/home/bob:/bin/sh\n", encoding="utf-8"
    )
    (top / "rootfs/etc/group").write_text("root:x:0:\nbob:x:1000:\n", encoding="utf-8")
    return top


class _Chosen:
    """The hypervisor of the module under test; set by the fixture ``hypervisor``, read by what makes pods."""

    hypervisor = ""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "hypervisors(name, ...): runs with these only: others lack it, or it concerns no one in particular"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests that are not for the hypervisor that they would run with."""
    for item in list(items):
        parameters, only = getattr(item, "callspec", None), item.get_closest_marker("hypervisors")
        if parameters and only and parameters.params.get("hypervisor", only.args[0]) not in only.args:
            items.remove(item)
            config.hook.pytest_deselected(items=[item])


@pytest.fixture(
    scope="module",
    autouse=True,
    params=["qemu", *(pytest.param(name, marks=pytest.mark.variant) for name in ("uml", "libvirt"))],
)
def hypervisor(request: pytest.FixtureRequest) -> str:
    """Run every test once for each hypervisor, a module at a time."""
    _Chosen.hypervisor = request.param
    return str(request.param)


@pytest.fixture(scope="module")
def templates_are_used() -> Iterator[None]:
    """Let pods of a module start from templates."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("VIRTCONTAINERS_TEMPLATES")
        yield


def pod_config(**fields: Any) -> vc.PodConfig:
    """Return the configuration of a pod of the hypervisor under test."""
    return vc.PodConfig(hypervisor_type=_Chosen.hypervisor, **fields)


@pytest.fixture(scope="module", autouse=True)
def root(hypervisor: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give every module state and run roots of its own; the cache of built guests is the host's."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("root")
        patch.setenv(ROOT_VARIABLE, str(path))
        yield path


@pytest.fixture(scope="module", autouse=True)
def warm_starts(request: pytest.FixtureRequest, hypervisor: str) -> Iterator[None]:
    """Let pods of qemu start as clones; those of other hypervisors boot, as the first pods of the drivers' tests do."""
    with pytest.MonkeyPatch.context() as patch:
        if hypervisor == "qemu":
            request.getfixturevalue("templates")
            patch.setenv(TEMPLATES_VARIABLE, "existing")
        yield


@pytest.fixture(scope="module")
def store(root: Path) -> Store:
    return Store(Roots.from_environment())


def container(bundle: Path, *args: str, container_id: str = "c1") -> vc.ContainerConfig:
    """Return a container of the bundle that runs a command."""
    return vc.ContainerConfig(id=container_id, root_fs=str(bundle), cmd=vc.Cmd(args=args or ["sleep", "100000"]))


@pytest.fixture(scope="module")
def pod(bundle: Path, root: Path) -> Iterator[vc.Pod]:
    """Return a running pod with a container "c1" that sleeps."""
    made = vc.run_pod(pod_config(id="shared", containers=[container(bundle)]))
    yield made
    made.delete(force=True)
    assert "shared" not in [one.id for one in vc.list_pods()]


@pytest.fixture(autouse=True)
def no_pod_outlives_its_test(root: Path) -> Iterator[None]:
    """Delete the pods that a failing test leaves, so that it is the only one to fail; then no file is left either."""
    before, files = {one.id for one in vc.list_pods()}, _files(root, set())
    yield
    for one in vc.list_pods():
        if one.id not in before and one.id != "shared":
            vc.delete_pod(one.id, force=True)
    assert _files(root, {one.id for one in vc.list_pods()}) - files == set()


def _files(root: Path, pods: set[str]) -> set[str]:
    """Return the files and directories below both roots, hidden ones too, but those of pods that there are."""
    found = {str(path.relative_to(root)) for path in root.rglob("*")}
    of_pods = {f"{kind}/{pod_id}" for kind in ("state/pods", "state/locks", "run/pods") for pod_id in pods}
    of_pods |= {f"{path}.lock" for path in of_pods} | {"state/images"}
    lasting = {"state", "state/events", "state/pods", "state/locks", "run", "run/pods"}
    return {path for path in found - lasting if not any(f"{path}/".startswith(f"{one}/") for one in of_pods)}


def virtc(*arguments: str, stdin: bytes = b"", timeout: float = 300) -> subprocess.CompletedProcess[bytes]:
    """Run the real command, whose new pods are of the hypervisor under test."""
    if arguments[:2] in (("pod", "run"), ("pod", "create")):
        arguments = (*arguments[:2], "--hypervisor", _Chosen.hypervisor, *arguments[2:])
    return subprocess.run([virtc_path(), *arguments], input=stdin, capture_output=True, timeout=timeout)


def virtc_path() -> str:
    """Return where the command is installed."""
    return str(Path(sys.executable).with_name("virtc"))


def supervisors(pod_id: str) -> list[int]:
    """Return the pids of the pod's supervisors: by their arguments, and by the root of this module."""
    return _processes("vc_core.supervisor", pod_id)


def template_makers(kind: str) -> list[int]:
    """Return the pids of the processes that make a template behind pods of this module."""
    return _processes("vc_core.engine.templates", kind)


def _processes(module: str, argument: str) -> list[int]:
    found = []
    root = f"{ROOT_VARIABLE}={os.environ[ROOT_VARIABLE]}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                variables = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            ours = module.encode() in words and argument.encode() in words and root in variables
            if ours and b"unshare" not in words[0]:
                found.append(int(entry.name))
    return found


def vm_pid(store: Store, pod_id: str) -> int:
    """Return the pid of a pod's VM from its record."""
    vm = store.read(pod_id).vm
    assert vm is not None
    return int(vm["pid"])


def vm_processes(store: Store, pod_id: str) -> list[int]:
    """Return the pids of a pod's VM: the one of its record, and those of its children, such as a QEMU in a jail."""
    vm = vm_pid(store, pod_id)
    return [vm, *map(int, Path(f"/proc/{vm}/task/{vm}/children").read_text(encoding="ascii").split())]


def wait_ended(pid: int, timeout: float = 60.0) -> bool:
    """Return whether a process that is not our child ended within ``timeout`` seconds, on a usual host."""
    import select

    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], scaled(timeout))[0])
    finally:
        os.close(pidfd)
