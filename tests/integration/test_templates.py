"""Pods that start as clones of a template."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

import vc_core as vc
from needs import require
from vc_core.config.ids import pod_uuid
from vc_core.config.network import NetworkMode
from vc_core.driver import ProcessIdentity
from vc_core.host.processes import find_vms
from vc_core.store.config_record import encode_config
from vc_core.store.roots import Roots
from vc_core.store.store import Store
from waiting import PATIENCE

from .conftest import container, supervisors, template_makers, virtc, wait_ended

pytestmark = [
    pytest.mark.vm,
    pytest.mark.root,
    pytest.mark.hypervisors("qemu"),
    pytest.mark.usefixtures("templates_are_used"),
]

#: MiB. No other pods have so much, so that their templates in the same cache are others.
MEMORY = 208

#: Seconds for a template to be made behind a pod on a busy machine.
MADE = 300


def config(bundle: Path, pod_id: str, **fields: object) -> vc.PodConfig:
    """Return the configuration of a pod with a network, whose container sends its host name to port 80's clients."""
    usual = vc.PodConfig(
        id=pod_id,
        hypervisor_type="qemu",
        agent_type="hyperstart",
        vm_config=vc.Resources(memory=MEMORY),
        hypervisor_config=vc.HypervisorConfig(template=True),
        network=vc.NetworkConfig(mode=NetworkMode.USER, forwards=[vc.PortForward(80)]),
        containers=[container(bundle, "sh", "-c", "while hostname | nc -l -p 80; do :; done")],
    )
    return replace(usual, **fields)  # type: ignore[arg-type]


def output(pod: vc.Pod, script: str) -> str:
    """Return what a shell script prints in the pod's container."""
    ran = pod.enter_container("c1", vc.Cmd(args=["sh", "-c", script]))
    assert ran.exit_code == 0, ran.stderr
    return ran.stdout.decode().strip()


def answer(pod: vc.Pod) -> bytes:
    """Return what the forwarded port of a pod answers."""
    [forward] = pod.status().forwards
    end = time.monotonic() + PATIENCE
    line = b""
    # Before the guest listens QEMU takes a connection, and closes it.
    while not line and time.monotonic() < end:
        with (
            suppress(ConnectionResetError),
            socket.create_connection(("127.0.0.1", forward.host_port), timeout=PATIENCE) as client,
            client.makefile("rb") as lines,
        ):
            line = lines.readline()
    return line


def path_of(kind: str) -> Path:
    return Roots.from_environment().cache / "templates" / kind


@pytest.fixture(scope="module")
def kind(bundle: Path) -> Iterator[str]:
    """The template of these pods."""
    remove_templates()  # of a run that was killed
    yield vc.create_template(config(bundle, "any")).kind
    remove_templates()


def remove_templates() -> None:
    for one in vc.list_templates():
        if one.memory == MEMORY:
            vc.delete_template(one.kind)


@pytest.fixture(scope="module")
def clones(bundle: Path, kind: str) -> Iterator[list[vc.Pod]]:
    """Two pods that run at the same time, both clones of the template."""
    made = [vc.run_pod(config(bundle, name)) for name in ("first", "second")]
    yield made
    for pod in made:
        pod.delete(force=True)


def test_pods_of_a_kind_are_clones_of_its_template(clones: list[vc.Pod], kind: str) -> None:
    for pod in clones:
        status = pod.status()
        assert (status.state, status.template, status.jail) == (vc.State.RUNNING, kind, "full")
    assert re.search(rf"^pod +template +{kind}$", virtc("pod", "status", "first").stdout.decode(), re.MULTILINE)
    [listed] = [one for one in vc.list_templates() if one.kind == kind]
    assert (listed.hypervisor, listed.agent, listed.memory) == ("qemu", "hyperstart", MEMORY)
    assert listed.size == sum((path_of(kind) / name).stat().st_blocks * 512 for name in ("memory", "state"))


def test_no_two_clones_have_random_numbers_names_or_addresses_in_common(clones: list[vc.Pod]) -> None:
    for script in (
        "head -c 32 /dev/urandom | od -An -tx1",
        "cat /proc/sys/kernel/random/uuid",
        "cat /proc/sys/kernel/random/boot_id",
        "hostname",
        "cat /sys/class/net/eth0/address",
    ):
        first, second = (output(pod, script) for pod in clones)
        assert first != second, script
    assert output(clones[0], "hostname") == "first"
    assert output(clones[0], "ls /sys/class/dmi/id; true").count("product_uuid") == 0


def test_the_clock_of_a_clone_is_that_of_the_host(clones: list[vc.Pod]) -> None:
    for pod in clones:
        before = time.time()
        guest = int(output(pod, "date +%s"))
        assert before - 2 <= guest <= time.time() + 1


def test_a_clone_has_shares_mounts_ports_and_disks_of_its_own(
    clones: list[vc.Pod], bundle: Path, kind: str, tmp_path: Path
) -> None:
    require("mke2fs")
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", bundle / "rootfs", disk], check=True)
    clones[0].create_container(replace(container(bundle, container_id="disk"), root_fs=str(disk))).start()
    ran = clones[0].enter_container("disk", vc.Cmd(args=["sh", "-c", "mount | grep ' / '"]))
    assert b"/dev/sd" in ran.stdout or b"overlay" in ran.stdout
    assert [answer(pod) for pod in clones] == [b"first\n", b"second\n"]
    writable = replace(container(bundle), mounts=[vc.Mount(source=str(tmp_path), target="/mnt", read_only=False)])
    other = vc.run_pod(config(bundle, "writing", containers=[writable]))
    try:
        assert other.status().template == ""  # a VM with one more share is of another kind
        output(other, "echo x > /mnt/made")
    finally:
        other.delete(force=True)
    assert (tmp_path / "made").read_text(encoding="utf-8") == "x\n"
    wait_until_made(other_than={kind})


def wait_until_made(other_than: set[str]) -> vc.TemplateStatus:
    """Return a template of these pods with another name, once there is one and its maker has ended."""
    end = time.monotonic() + MADE
    while time.monotonic() < end:
        for one in vc.list_templates():
            if one.memory == MEMORY and one.kind not in other_than:
                assert all(wait_ended(pid, MADE) for pid in template_makers(one.kind))
                return one
        time.sleep(0.1)
    raise AssertionError("no template was made behind the pod")


def test_a_clone_outlives_its_supervisor_and_its_template_and_can_be_stopped_and_started(
    bundle: Path, kind: str
) -> None:
    pod = vc.run_pod(config(bundle, "third"))
    try:
        [pid] = supervisors("third")
        os.kill(pid, signal.SIGKILL)
        assert wait_ended(pid)
        vc.delete_template(kind)
        assert output(pod, "find / -xdev | wc -l; hostname").endswith("third")
        assert pod.status().template == kind
        pod.stop()
        assert pod.status().state is vc.State.STOPPED
        vc.create_template(config(bundle, "any"))
        pod.start()
        assert pod.status().template == kind
    finally:
        pod.delete(force=True)


@pytest.mark.parametrize("name", ["state", "memory", "gone"])
def test_a_template_from_which_no_clone_starts_is_removed_and_the_pod_boots(
    bundle: Path, kind: str, name: str, store: Store
) -> None:
    """Its manifest is right. But QEMU refuses the state, as that of another version; or the guest's memory is empty;
    or the memory is removed after the manifest was read."""
    if not path_of(kind).exists():
        vc.create_template(config(bundle, "any"))
    manifest, file = path_of(kind) / "manifest.json", path_of(kind) / ("state" if name == "state" else "memory")
    content = json.loads(manifest.read_bytes())
    if name == "gone":
        del content["files"]["memory"]
        file.unlink()
    else:
        with file.open("r+b") as opened:
            opened.truncate(0)
            opened.truncate(1000 if name == "state" else MEMORY << 20)
        status = file.stat()
        content["files"][name] |= {"size": status.st_size, "modified": status.st_mtime_ns, "sha256": ""}
    manifest.write_text(json.dumps(content), encoding="utf-8")
    pod = vc.run_pod(config(bundle, "booted"))
    try:
        assert (pod.status().state, pod.status().template) == (vc.State.RUNNING, "")
        assert output(pod, "hostname") == "booted"
        log = (store.roots.pod_run_dir("booted") / "supervisor.log").read_text(encoding="utf-8")
        [line] = [line for line in log.splitlines() if " INFO " not in line]
        assert "its guest boots, because no clone can be started" in line
        end = time.monotonic() + MADE
        while not path_of(kind).exists() and time.monotonic() < end:
            time.sleep(0.1)
    finally:
        pod.delete(force=True)
    assert (path_of(kind) / "state").stat().st_size > 1000
    assert (path_of(kind) / "memory").stat().st_blocks * 512 > 1 << 20


def test_a_strict_pod_that_is_refused_leaves_the_template_to_the_next_pod(bundle: Path, kind: str) -> None:
    if not path_of(kind).exists():
        vc.create_template(config(bundle, "any"))
    made = (path_of(kind) / "memory").stat().st_ino
    unconfined = vc.HypervisorConfig(template=True, options={"jail": "landlock"})
    with pytest.raises(vc.VMStartError, match="is strict, but the jail of its VM is 'landlock'"):
        vc.run_pod(config(bundle, "strict", strict=True, hypervisor_config=unconfined))
    assert (path_of(kind) / "memory").stat().st_ino == made


def maker(bundle: Path, kind: str) -> subprocess.Popen[bytes]:
    """Return a process that makes a template as it is made behind a pod."""
    words = [sys.executable, "-P", "-m", "vc_core.engine.templates", kind]
    made = subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert made.stdin is not None
    made.stdin.write(encode_config(config(bundle, "any")))
    made.stdin.close()
    return made


def vms_of(making: Path) -> list[ProcessIdentity]:
    return list(find_vms(making / "run", pod_uuid(making / "run")))


#: When a maker is killed: what is there then.
MOMENTS: dict[str, Callable[[Path], object]] = {
    "before its VM": Path.exists,
    "while it boots": vms_of,
    "while it is saved": lambda making: (making / "state").exists(),
    "while its clone starts": lambda making: (making / "state").exists() and not vms_of(making),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_maker_that_was_killed_leaves_what_the_next_one_removes(bundle: Path, kind: str, moment: str) -> None:
    making = path_of(f".making-{kind}")
    with maker(bundle, kind) as process:
        end = time.monotonic() + MADE
        while not MOMENTS[moment](making) and time.monotonic() < end:
            time.sleep(0.001)
        if moment == "while it boots":
            with pytest.raises(vc.BusyError, match="another process makes this template"):
                vc.create_template(config(bundle, "any"))
        assert process.poll() is None
        process.kill()
    vms = vms_of(making)
    assert making.exists()
    assert vc.create_template(config(bundle, "any")).kind == kind
    assert not any(vm.alive() for vm in vms)
    assert not making.exists()


def test_of_two_makers_at_once_one_makes_the_template_and_the_other_says_nothing(bundle: Path, kind: str) -> None:
    with maker(bundle, kind) as first, maker(bundle, kind) as second:
        said = [process.stderr.read() for process in (first, second) if process.stderr is not None]
    assert [first.returncode, second.returncode, *said] == [0, 0, b"", b""]
    assert vc.run_pod(config(bundle, "third")).status().template == kind
    vc.delete_pod("third", force=True)


def test_without_room_for_a_template_pods_boot_and_one_sentence_says_so(bundle: Path, tmp_path: Path) -> None:
    """The directory of templates is a file system of its own, in a mount namespace of these commands."""
    cache = tmp_path / "cache"
    script = """
        mount --bind "$1" "$2/guests"
        mount -t tmpfs -o size=20m,mode=0700 none "$2/templates"
        export VIRTCONTAINERS_CACHE="$2"
        virtc template create && exit 9
        virtc pod run -i --rm --bundle "$3" -- echo ran || exit 8
        ls -A "$2/templates"
    """
    for name in ("guests", "templates"):
        (cache / name).mkdir(parents=True)
        (cache / name).chmod(0o700)
    guests = Roots.from_environment().cache / "guests"
    words: list[str | Path] = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-euc",
        f"{script}",
        "sh",
        guests,
        cache,
        bundle,
    ]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(words, capture_output=True, encoding="utf-8", env=environment, timeout=MADE, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ran\n")
    [error] = [line for line in done.stderr.splitlines() if "notice" not in line]
    assert re.fullmatch(
        r"virtc: the file system of '.*' has (19|20) MiB left, but a template .*; make room, or move .*", error
    )


def test_a_pod_can_be_started_without_a_template(bundle: Path, store: Store) -> None:
    for flag, wanted in (("--template", True), ("--no-template", False)):
        ran = virtc("pod", "create", "--quiet", flag, "--bundle", str(bundle))
        assert ran.returncode == 0, ran.stderr
        pod = vc.Pod(ran.stdout.decode().strip())
        assert store.read_config(pod.id).hypervisor_config.template is wanted
        pod.delete()


def test_the_command_makes_lists_and_removes_templates(bundle: Path) -> None:
    made = virtc("template", "create", "--quiet", "--memory", str(MEMORY), "--no-template")
    assert made.returncode == 0, made.stderr
    name = made.stdout.decode().strip()
    assert name in virtc("template", "list", "--quiet").stdout.decode().split()
    assert f"{name}  qemu        hyperstart  {MEMORY} " in virtc("template", "list").stdout.decode()
    assert virtc("template", "remove", name).returncode == 0
    gone = virtc("template", "remove", name)
    assert gone.returncode == 1
    assert gone.stderr.decode() == f"virtc: there is no template '{name}'; 'virtc template list' shows all\n"
