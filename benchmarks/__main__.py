"""``./dev bench``: runs every measurement and writes docs/reference/benchmarks.md."""

from __future__ import annotations

import asyncio
import functools
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import vc_core as vc
from benchmarks import jail, ssh
from benchmarks import plugins as plugin_costs
from benchmarks.bare import EMULATED, BareVm, initramfs
from benchmarks.ratio import Ratio, Table, pairs
from benchmarks.streams import ROUNDS, SIZE, measure
from vc_core.driver.guest import GuestImage
from vc_core.errors import ConfigError
from vc_core.testing import built_guest
from vc_hypervisor_qemu.host import find_binary

PAGE = Path(__file__).parents[1] / "docs/reference/benchmarks.md"
VIRTC = str(Path(sys.executable).with_name("virtc"))


def cold_start(image: GuestImage, bundle: Path, folder: Path) -> Ratio:
    """From starting ``virtc pod run -i`` to the container's first byte, against QEMU to init's first line."""
    archive, rounds = initramfs(image, folder), 5

    def other() -> float:
        with BareVm(image, archive, folder) as vm:
            return vm.seconds_to_init

    return Ratio(
        "`virtc pod run -i` to the first byte of the container's output",
        "bare QEMU with the same kernel to its init's first line",
        *pairs(rounds, lambda: ssh.first_byte(bundle), other), 1.6, rounds,
    )  # fmt: skip


def user_mode_linux() -> Ratio:
    """``run_pod`` of a pod without containers on two hypervisors; it returns when the guest's agent is ready."""
    rounds = 5

    def seconds(config: vc.PodConfig) -> float:
        began = time.monotonic()
        with vc.run_pod(config):
            return time.monotonic() - began

    uml, qemu = vc.PodConfig(hypervisor_type="uml"), vc.PodConfig(hypervisor_config=EMULATED)
    seconds(uml)  # builds the guest if it does not exist yet
    medians = pairs(rounds, lambda: seconds(uml), lambda: seconds(qemu))
    return Ratio("`run_pod` on the hypervisor uml", "`run_pod` on the hypervisor qemu", *medians, 1, rounds)


def exec_true(image: GuestImage, bundle: Path, folder: Path) -> Ratio:
    """``enter_container`` in one process on a running pod, against a bare init over a virtio-serial port."""
    rounds, command = 200, vc.Cmd(args=["/bin/busybox", "true"])
    sleeper = vc.ContainerConfig(id="c", root_fs=str(bundle), cmd=vc.Cmd(args=["sleep", "10000"]))
    config = vc.PodConfig(hypervisor_config=EMULATED, containers=[sleeper])
    with vc.run_pod(config) as pod, BareVm(image, folder / "bare.cpio", folder) as vm:
        vm.wait_port()

        def ours() -> float:
            began = time.monotonic()
            assert pod.enter_container("c", command).exit_code == 0
            return time.monotonic() - began

        for _ in range(5):
            ours()
            vm.run_true()
        medians = pairs(rounds, ours, vm.run_true)
    return Ratio("`enter_container(... true)`", "fork and exec by a bare init over virtio-serial", *medians, 3, rounds)


def streams(image: GuestImage, bundle: Path, folder: Path) -> Iterator[Ratio | str]:
    """32 MiB in each direction through the agent, at least 0.7 of the rate of `cat` on a bare port of the VM."""
    medians, figures = asyncio.run(measure(image, bundle, folder))
    size = f"{SIZE >> 20} MiB"
    for direction, seconds in medians.items():
        yield Ratio(
            f"a command's {size} {direction}",
            "`cat` between a pipe and a virtio-serial port of the same VM",
            *seconds, 1.43, ROUNDS,
        )  # fmt: skip
    yield from figures


def list_pods(folder: Path) -> Ratio:
    """``virtc pod list`` with 100 pods, against the start of Python."""
    rounds, environment = 15, {**os.environ, "VIRTCONTAINERS_ROOT": str(folder / "hundred")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    script = (
        "import vc_core as vc\n"
        "for n in range(100): vc.create_pod(vc.PodConfig(id=f'p{n}', hypervisor_type='mock', agent_type='noop'))"
    )
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)

    def timed(command: list[str]) -> float:
        began = time.monotonic()
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        return time.monotonic() - began

    medians = pairs(rounds, lambda: timed([VIRTC, "pod", "list"]), lambda: timed([sys.executable, "-c", "pass"]))
    return Ratio("`virtc pod list` with 100 pods", "`python -c pass`", *medians, 8, rounds)


@contextmanager
def world() -> Iterator[tuple[Path, Path]]:
    """Yield a temporary folder that also holds the state root, and a busybox bundle in it."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    os.environ["VIRTCONTAINERS_ROOT"] = str(folder / "root")
    try:
        bin_dir = folder / "bundle/rootfs/bin"
        bin_dir.mkdir(parents=True)
        shutil.copy(shutil.which("busybox") or "/bin/busybox", bin_dir / "busybox")
        for name in ("echo", "sleep", "true"):
            (bin_dir / name).symlink_to("busybox")
        yield folder, folder / "bundle"
    finally:
        shutil.rmtree(folder)


def main() -> int:
    """Measure, print and write the page. Return 0 if every row was measured and no ratio is above its limit."""
    table = Table()
    os.environ["VIRTCONTAINERS_TEMPLATES"] = "off"  # these rows are about boots

    @functools.cache
    def image() -> GuestImage:
        return built_guest("hyperstart")

    with world() as (folder, bundle):
        table.add("`virtc pod run -i`", lambda: [cold_start(image(), bundle, folder)])
        table.add("`run_pod` on the hypervisor uml", lambda: [user_mode_linux()])
        table.add("`enter_container(... true)`", lambda: [exec_true(image(), bundle, folder)])
        table.add("QEMU in a full jail", lambda: [jail.start(image(), folder)])
        table.add("`virtc pod list` with 100 pods", lambda: [list_pods(folder)])
        table.add("a command's streams", lambda: streams(image(), bundle, folder))
        table.add("`virtc pod run -i --agent sshd`", lambda: [ssh.cold_start(bundle)])
        table.add("`enter_pod(... true)` with the agent `sshd`", lambda: [ssh.exec_true(bundle, folder)])
        table.add("sizes of guests", lambda: [ssh.sizes()])
        table.add("plug-ins", lambda: plugin_costs.measure(folder))
    PAGE.write_text(page(table), encoding="utf-8")
    for row in table.rows:
        if isinstance(row, Ratio):
            print(f"{row.value:6.2f} (at most {row.at_most})  {row.what}  /  {row.against}")
        else:
            print(f"not measured: {row.what}: {row.reason}")
    return 0 if table.holds else 1


def page(table: Table) -> str:
    lines = [
        "# Benchmarks",
        "",
        "`./dev bench` measures these figures and writes this page. It exits with 1 if a ratio is above its limit",
        "(*at most*) or if a row cannot be measured. The ratio compares with a program that does the same work,",
        "measured in turns in the same run. The seconds are medians of the last run; they depend on the machine.",
        "",
        "| measured | against | ratio | at most | seconds | against, seconds | rounds |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in table.rows:
        if isinstance(row, Ratio):
            lines.append(
                f"| {row.what} | {row.against} | {row.value:.2f} | {row.at_most} "
                f"| {row.ours:.3g} | {row.other:.3g} | {row.rounds} |"
            )
        else:
            lines.append(f"| {row.what} | not measured: {row.reason.replace('|', '/')} | | | | | |")
    lines += [
        "",
        *(f"* {figure}" for figure in table.figures),
        "",
        f"Last run: {os.cpu_count()} CPUs, {qemu_version()}, Python {platform.python_version()}, "
        "VMs under emulation (TCG).",
        "",
    ]
    return "\n".join(lines)


def qemu_version() -> str:
    try:
        asked = subprocess.run([find_binary(""), "--version"], capture_output=True, encoding="utf-8", check=True)
    except (ConfigError, OSError, subprocess.CalledProcessError):
        return "no QEMU"
    return asked.stdout.splitlines()[0]


if __name__ == "__main__":
    sys.exit(main())
