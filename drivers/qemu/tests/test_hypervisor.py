"""The life cycle of a VM in a real QEMU; its CPUs stay stopped, so no guest runs here."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from qemu.qmp import QMPClient
from qemu_vms import live, pid_of

from vc_core.driver import (
    BlockDevice,
    Boot,
    Channel,
    GuestPort,
    NetworkConfig,
    NetworkInterface,
    NetworkMode,
    Param,
    ProcessIdentity,
    Resources,
    SharedDirectory,
    VMExit,
)
from vc_core.errors import ConfigError, HypervisorError, StateError, VCError, VMStartError, VMTimeoutError
from vc_core.testing.slowness import within
from vc_hypervisor_qemu import sockets
from vc_hypervisor_qemu.config import DISK_BUSES, MACHINES
from vc_hypervisor_qemu.hypervisor import QemuHypervisor

pytestmark = pytest.mark.slow

Make = Callable[..., QemuHypervisor]
Owner = Callable[[Boot], tuple[subprocess.Popen[bytes], dict[str, Any]]]


def fake_qemu(directory: Path, does: str) -> str:
    """Return the path of a program that poses as QEMU, to misbehave."""
    path = directory / "qemu-system-x86_64"
    path.write_text(f"#!/bin/sh\n{does}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def left_in(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "run" / "p1").iterdir())


# -- prepare -----------------------------------------------------------------------------------------------------------


def test_a_prepared_vm_is_a_process_that_carries_the_pods_id(make: Make) -> None:
    hypervisor = make()
    assert (hypervisor.identity(), hypervisor.save(), hypervisor.acceleration) == (None, {}, "none")

    async def use(pid: int) -> None:
        argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        assert argv[argv.index(b"-name") + 1] == b"guest=p1,debug-threads=on"
        identity = hypervisor.identity()
        assert identity is not None
        assert identity.alive()

    live(hypervisor, use)


def test_under_emulation_no_isolation_is_claimed(make: Make) -> None:
    hypervisor = make(options={"accel": "tcg"})

    async def use(pid: int) -> None:
        assert (hypervisor.acceleration, hypervisor.isolation) == ("tcg", "none")

    live(hypervisor, use)


def test_isolation_by_hardware_is_claimed_for_kvm_only(make: Make) -> None:
    process = {"pid": 2, "start_time": 1, "boot_id": "x"}
    hypervisor = make(saved={"process": process, "acceleration": "kvm", "channels": {}})
    assert (hypervisor.acceleration, hypervisor.isolation) == ("kvm", "hardware")


def test_qemu_is_sandboxed_and_inherits_no_environment_and_no_other_descriptors(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hush")
    (tmp_path / "open").touch()

    async def use(pid: int) -> None:
        process = Path(f"/proc/{pid}")
        names = [variable.split(b"=")[0] for variable in (process / "environ").read_bytes().split(b"\0") if variable]
        assert names == [b"PATH"]
        status = dict(line.split(":\t", 1) for line in (process / "status").read_text(encoding="utf-8").splitlines())
        assert (status["Umask"], status["Seccomp"]) == ("0077", "2")
        assert "Max core file size 1 1 bytes" in " ".join((process / "limits").read_text(encoding="utf-8").split())
        assert os.getsid(pid) == pid
        files = {str(fd.readlink()) for fd in (process / "fd").iterdir()}
        expected = {
            "/dev/null",
            "/dev/urandom",
            *(str(tmp_path / "run/p1" / name) for name in ("qemu.pid", "qemu.pipe")),
        }
        assert {file for file in files if file.startswith("/")} <= expected

    with (tmp_path / "open").open(encoding="utf-8") as file:
        os.set_inheritable(file.fileno(), True)
        live(make(), use)


def test_everything_in_the_run_directory_is_private(make: Make, tmp_path: Path) -> None:
    hypervisor = make()
    hypervisor.add_device(Channel("c0", "test"))

    async def use(pid: int) -> None:
        modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "run" / "p1").iterdir()}
        assert modes == dict.fromkeys(
            ("channel.c0.sock", "console.log", "console.sock", "monitor.sock", "qemu.log", "qemu.pid", "qemu.pipe"),
            0o600,
        )

    live(hypervisor, use)


def test_a_share_is_exactly_the_directory_that_was_named(make: Make, tmp_path: Path) -> None:
    directory = tmp_path / "a,path=,,etc,readonly=off"
    directory.mkdir()
    hypervisor = make()
    hypervisor.add_device(SharedDirectory("t,fsdev=x", directory))

    async def use(pid: int) -> None:
        files = {str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()}
        assert str(directory) in files
        assert "/etc" not in files

    live(hypervisor, use)


def test_a_long_run_directory_has_working_sockets(tmp_path: Path, make: Make) -> None:
    deep = tmp_path / ("d" * 200)
    hypervisor = make(run_dir=deep)
    hypervisor.add_device(Channel("c0", "test", deep / "chosen.sock"))

    async def use(pid: int) -> None:
        assert (deep / "chosen.sock").is_socket()
        (await hypervisor.open_channel("test")).close()

    live(hypervisor, use)
    assert sorted(path.name for path in deep.iterdir()) == ["console.log", "qemu.log"]


@pytest.mark.parametrize("bus", DISK_BUSES)
@pytest.mark.parametrize("machine", MACHINES)
def test_as_many_devices_as_are_accepted_fit_into_a_vm_beside_a_disk(
    make: Make, tmp_path: Path, disk: Boot, machine: str, bus: str
) -> None:
    hypervisor = make(disk, options={"machine": machine, "disk_bus": bus})
    hypervisor.add_device(NetworkInterface(NetworkConfig(mode=NetworkMode.USER), "52:54:00:00:00:01"))
    shares, blocks = (24, 256) if bus == "scsi" else (12, 12)
    for number in range(shares):
        hypervisor.add_device(SharedDirectory(f"t{number}", tmp_path))
    for number in range(blocks):
        hypervisor.add_device(BlockDevice(f"d{number}", disk.image))
    for number in range(30):
        hypervisor.add_device(Channel(f"c{number}", f"n{number}"))
        hypervisor.add_device(GuestPort(f"p{number}", 1 + number))
    for device in (SharedDirectory("t", tmp_path), BlockDevice("d", disk.image), Channel("c", "n"), GuestPort("p", 99)):
        with pytest.raises(ConfigError, match="one device too many"):
            hypervisor.add_device(device)

    async def use(pid: int) -> None:
        pass

    live(hypervisor, use)


def target(descriptor: Path) -> Path | None:
    """Return what an entry of /proc/PID/fd leads to; None for one that was closed meanwhile."""
    try:
        return descriptor.readlink()
    except FileNotFoundError:
        return None


def test_a_disk_is_read_only_and_its_format_is_not_probed(make: Make, disk: Boot, tmp_path: Path) -> None:
    with disk.image.open("r+b") as file:
        file.write(b"QFI\xfb\x00\x00\x00\x03")  # what QEMU would take for an image that can name other files
    content = hashlib.sha256(disk.image.read_bytes()).digest()
    hypervisor = make(disk)

    async def use(pid: int) -> None:
        await hypervisor.aclose()  # QEMU's monitor has no other client now
        monitor = QMPClient()
        await monitor.connect(sockets.connect(tmp_path / "run" / "p1" / "monitor.sock", pid))
        try:
            blocks: Any = await monitor.execute("query-block")
        finally:
            await monitor.disconnect()
        facts = blocks[0]["inserted"]
        assert (facts["file"], facts["drv"], facts["ro"]) == (str(disk.image), "raw", True)
        assert facts["image"]["virtual-size"] == disk.image.stat().st_size
        [opened] = [fd.name for fd in Path(f"/proc/{pid}/fd").iterdir() if target(fd) == disk.image]
        flags = Path(f"/proc/{pid}/fdinfo/{opened}").read_text(encoding="utf-8").split("flags:")[1].split()[0]
        assert int(flags, 8) & os.O_ACCMODE == os.O_RDONLY

    live(hypervisor, use)
    assert hashlib.sha256(disk.image.read_bytes()).digest() == content


def test_pods_share_a_disk(make: Make, disk: Boot, tmp_path: Path) -> None:
    async def use(pid: int) -> None:
        other = make(disk, run_dir=tmp_path / "run" / "p2")
        await other.prepare(10)
        await other.stop(10)
        await other.aclose()

    live(make(disk), use)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("global", "virtio-rng-pci.max-bytes=64"),
        ("icount", "shift=auto,align=off,sleep=on"),
        ("overcommit", "mem-lock=off,cpu-pm=off"),
        ("rtc", "base=2030-01-01T00:00:00,clock=vm,driftfix=slew"),
    ],
)
def test_qemu_accepts_each_parameter_that_a_caller_may_give(make: Make, name: str, value: str) -> None:
    async def use(pid: int) -> None:
        assert f"\0-{name}\0{value}\0" in Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")

    live(make(hypervisor_params=[Param(name, value)]), use)


def test_a_vm_is_prepared_once_and_has_its_devices_before(make: Make) -> None:
    hypervisor = make()

    async def use(pid: int) -> None:
        with pytest.raises(StateError, match="too late to prepare it"):
            await hypervisor.prepare(1)
        with pytest.raises(StateError, match="too late to add a device"):
            hypervisor.add_device(Channel("c0", "test"))

    live(hypervisor, use)


# -- failures of prepare -----------------------------------------------------------------------------------------------


def failing(hypervisor: QemuHypervisor, error: type[VCError], text: str, timeout: float = 5) -> None:
    """Prepare in vain: the error is right, and the census of each test finds no process or descriptor left."""

    async def run() -> None:
        with pytest.raises(error, match=text):
            await hypervisor.prepare(timeout)
        assert hypervisor.identity() is None
        await hypervisor.stop(1)

    asyncio.run(run())


def test_a_kernel_that_qemu_cannot_load_is_reported_with_qemus_message(
    make: Make, tmp_path: Path, unbootable: Boot
) -> None:
    (tmp_path / "vmlinux").write_bytes(b"\x7fELF" + bytes(1000))
    text = r"pod 'p1' did not start: QEMU exited with status 1: qemu-system-x86_64: .*(kernel|ELF)"
    failing(make(Boot(tmp_path / "vmlinux", unbootable.image, True, ())), VMStartError, text)
    assert left_in(tmp_path) == []


def test_a_missing_share_is_reported_with_qemus_message(make: Make, tmp_path: Path) -> None:
    hypervisor = make()
    hypervisor.add_device(SharedDirectory("t", tmp_path / "missing"))
    failing(hypervisor, VMStartError, "QEMU exited with status 1: .*missing.*No such file or directory")
    assert left_in(tmp_path) == []


def test_a_qemu_that_cannot_be_executed_is_reported(make: Make, tmp_path: Path) -> None:
    binary = tmp_path / "qemu-system-x86_64"
    binary.write_bytes(b"\x7fELF, but not really")
    binary.chmod(0o755)
    failing(make(hypervisor_path=binary), VMStartError, "cannot be started: Exec format error")
    assert left_in(tmp_path) == []


def test_a_qemu_that_dies_by_a_signal_is_reported(make: Make, tmp_path: Path) -> None:
    hypervisor = make(hypervisor_path=fake_qemu(tmp_path, "kill -SEGV $$"))
    failing(hypervisor, VMStartError, r"killed by signal 11 \(Segmentation fault\)")
    assert left_in(tmp_path) == []


def test_a_qemu_that_floods_its_output_is_reported_with_its_last_lines(make: Make, tmp_path: Path) -> None:
    does = "i=0; while [ $i -lt 900 ]; do echo line $i >&2; i=$((i+1)); done; exit 3"
    failing(make(hypervisor_path=fake_qemu(tmp_path, does)), VMStartError, "status 3: line 897; line 898; line 899$")
    assert left_in(tmp_path) == []


def test_a_qemu_that_never_answers_is_killed_at_the_timeout(make: Make, tmp_path: Path) -> None:
    with within(2):
        failing(make(hypervisor_path=fake_qemu(tmp_path, "exec sleep 1000")), VMTimeoutError, "does not answer", 0.5)
    assert left_in(tmp_path) == []


def test_a_prepare_that_is_cancelled_leaves_nothing(make: Make, tmp_path: Path) -> None:
    hypervisor = make(hypervisor_path=fake_qemu(tmp_path, f"touch {tmp_path}/started; exec sleep 1000"))

    async def run() -> None:
        task = asyncio.create_task(hypervisor.prepare(10))
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # it has started QEMU and waits for it
        assert left_in(tmp_path) != []
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert left_in(tmp_path) == []


def test_a_bad_kernel_or_image_is_refused_before_qemu_starts(make: Make, tmp_path: Path, unbootable: Boot) -> None:
    failing(make(Boot(Path(__file__), unbootable.image, True, ())), ConfigError, "neither an ELF")
    failing(make(Boot(unbootable.kernel, unbootable.image, True, ("a b",))), ConfigError, "kernel parameter")
    assert left_in(tmp_path) == []


def test_resources_and_parameters_are_checked_when_the_object_is_made(make: Make) -> None:
    with pytest.raises(ConfigError, match="memory"):
        make(resources=Resources(memory=1))
    with pytest.raises(ConfigError, match="init"):
        make(kernel_params=[Param("init", "/bin/sh")])
    with pytest.raises(ConfigError, match="hypervisor_path '/usr/bin/qemu-system-aarch64' is not QEMU for this host"):
        make(hypervisor_path="/usr/bin/qemu-system-aarch64")


def test_a_channels_path_that_is_in_use_is_refused(make: Make, tmp_path: Path) -> None:
    place = tmp_path / "chosen.sock"
    hypervisor = make()
    hypervisor.add_device(Channel("c0", "test", place))
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.bind(str(place))
        stranger.listen()
        failing(hypervisor, VMStartError, "chosen.sock' cannot be made: a process listens there")
    assert place.is_socket()
    assert left_in(tmp_path) == []


def test_a_run_directory_that_cannot_be_used_is_reported(make: Make, tmp_path: Path) -> None:
    hypervisor = make()
    in_the_way = tmp_path / "run" / "p1" / "qemu.pipe"
    in_the_way.mkdir()
    failing(hypervisor, VMStartError, "the VM of pod 'p1' cannot be started: .*qemu.pipe")
    assert left_in(tmp_path) == ["qemu.pipe"]
    in_the_way.rmdir()
    in_the_way.parent.rmdir()
    failing(hypervisor, VMStartError, "monitor.sock' cannot be made: No such file")


def test_stale_files_of_an_earlier_vm_are_replaced(make: Make, tmp_path: Path) -> None:
    run_dir = tmp_path / "run" / "p1"
    run_dir.mkdir(parents=True)
    for name in ("monitor.sock", "console.sock"):
        with socket.socket(socket.AF_UNIX) as old:
            old.bind(str(run_dir / name))
    (run_dir / "qemu.pid").symlink_to(tmp_path / "precious")
    os.mkfifo(run_dir / "qemu.pipe")
    (run_dir / "console.log").write_text("old", encoding="utf-8")

    async def use(pid: int) -> None:
        assert hypervisor.console_tail() == ""

    hypervisor = make()
    live(hypervisor, use)
    assert not (tmp_path / "precious").exists()


# -- the end -----------------------------------------------------------------------------------------------------------


def test_stop_ends_the_vm_and_leaves_only_its_logs(make: Make, tmp_path: Path) -> None:
    hypervisor = make()
    place = tmp_path / "chosen.sock"
    hypervisor.add_device(Channel("c0", "test", place))

    async def use(pid: int) -> None:
        await hypervisor.stop(10)
        assert not Path(f"/proc/{pid}").exists()
        assert await hypervisor.wait() == VMExit(expected=True, reason="QEMU was asked to quit")
        assert left_in(tmp_path) == ["console.log", "qemu.log"]
        assert not place.exists()

    live(hypervisor, use)


def test_stop_can_be_called_in_every_state(make: Make) -> None:
    async def run() -> None:
        hypervisor = make()
        await hypervisor.stop(1)
        await hypervisor.prepare(10)
        await hypervisor.stop(10)
        await hypervisor.stop(10)
        await hypervisor.aclose()
        await hypervisor.aclose()

    asyncio.run(run())


def test_a_frozen_qemu_is_killed_within_the_timeout(make: Make) -> None:
    hypervisor = make()

    async def use(pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        with within(2):
            await hypervisor.stop(2)
        assert await hypervisor.wait() == VMExit(True, "QEMU was killed by signal 9 (Killed)")

    live(hypervisor, use)


def test_closing_the_object_of_a_frozen_qemu_returns(make: Make) -> None:
    async def run() -> None:
        hypervisor = make()
        await hypervisor.prepare(10)
        os.kill(pid_of(hypervisor), signal.SIGSTOP)
        pausing = asyncio.create_task(hypervisor.pause())
        await asyncio.sleep(0)
        async with asyncio.timeout(1):
            await hypervisor.aclose()
        with pytest.raises(HypervisorError):
            await pausing
        later = make(saved=hypervisor.save())
        await later.stop(2)
        await later.aclose()

    asyncio.run(run())


def test_all_waits_return_within_a_second_after_qemu_was_killed(make: Make) -> None:
    hypervisor = make()
    hypervisor.add_device(Channel("c0", "test"))

    async def use(pid: int) -> None:
        waiting = [asyncio.create_task(hypervisor.wait()) for _ in range(3)]
        with await hypervisor.open_channel("test") as channel:
            await hypervisor.pause()  # QEMU has looked at its sockets
            os.kill(pid, signal.SIGKILL)
            async with asyncio.timeout(1):
                assert set(await asyncio.gather(*waiting)) == {VMExit(False, "QEMU was killed by signal 9 (Killed)")}
                assert await asyncio.get_running_loop().sock_recv(channel, 1) == b""
        assert await hypervisor.wait() == await waiting[0]
        for refused in (hypervisor.pause, hypervisor.resume, lambda: hypervisor.open_channel("test")):
            with pytest.raises(HypervisorError, match="has ended"):
                await refused()

    live(hypervisor, use)


def test_the_reason_of_a_terminated_qemu_contains_its_message_about_the_signal(make: Make) -> None:
    hypervisor = make()

    async def use(pid: int) -> None:
        os.kill(pid, signal.SIGTERM)
        vm_exit = await hypervisor.wait()
        assert not vm_exit.expected
        assert f"QEMU exited with status 0: qemu-system-x86_64: terminating on signal 15 from pid {os.getpid()}" in (
            vm_exit.reason
        )

    live(hypervisor, use)


def test_starting_a_vm_that_has_ended_is_an_error_that_says_so(make: Make) -> None:
    hypervisor = make()

    async def use(pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        with pytest.raises((VMStartError, HypervisorError), match=r"killed by signal 9|has ended"):
            await hypervisor.start(5)

    live(hypervisor, use)


def test_closing_the_object_leaves_the_vm_and_ends_all_waits(make: Make) -> None:
    async def run() -> None:
        hypervisor = make()
        await hypervisor.prepare(10)
        waiting = asyncio.create_task(hypervisor.wait())
        await asyncio.sleep(0)
        await hypervisor.aclose()
        with pytest.raises(HypervisorError, match="was closed"):
            await waiting
        identity = hypervisor.identity()
        assert identity is not None
        assert identity.alive()
        later = make(saved=json.loads(json.dumps(hypervisor.save())))
        await later.stop(10)
        await later.aclose()
        assert not identity.alive()

    asyncio.run(run())


# -- channels ----------------------------------------------------------------------------------------------------------


def test_a_channel_that_the_vm_does_not_have_is_named_with_those_it_has(make: Make) -> None:
    hypervisor = make()
    hypervisor.add_device(Channel("c0", "one"))
    hypervisor.add_device(Channel("c1", "two"))

    async def use(pid: int) -> None:
        with pytest.raises(HypervisorError, match="has no channel 'three'; it has 'one', 'two'"):
            await hypervisor.open_channel("three")

    live(hypervisor, use)


def test_a_channel_can_be_opened_again_and_again(make: Make) -> None:
    hypervisor = make()
    hypervisor.add_device(Channel("c0", "test"))

    async def use(pid: int) -> None:
        for _ in range(50):
            with await hypervisor.open_channel("test") as channel:
                assert channel.gettimeout() == 0
                await hypervisor.pause()  # QEMU has looked at its sockets

    live(hypervisor, use)


# -- another owner -----------------------------------------------------------------------------------------------------


def test_another_process_takes_over_a_vm_whose_owner_was_killed(make: Make, owner: Owner, unbootable: Boot) -> None:
    child, saved = owner(unbootable)
    child.kill()
    child.wait()

    async def run() -> None:
        hypervisor = make(boot=None, saved=saved)
        assert hypervisor.save() == saved
        assert hypervisor.acceleration == "tcg"
        waiting = asyncio.create_task(hypervisor.wait())
        (await hypervisor.open_channel("test")).close()
        await hypervisor.pause()
        await hypervisor.stop(10)
        assert await waiting == VMExit(True, "QEMU was asked to quit")
        await hypervisor.aclose()

    asyncio.run(run())


def test_the_end_of_a_vm_that_another_process_started_is_noticed(make: Make, owner: Owner, unbootable: Boot) -> None:
    child, saved = owner(unbootable)
    child.kill()
    child.wait()

    async def run() -> None:
        hypervisor = make(boot=None, saved=saved)
        waiting = asyncio.create_task(hypervisor.wait())
        await asyncio.sleep(0)
        os.kill(saved["process"]["pid"], signal.SIGKILL)
        async with asyncio.timeout(1):
            assert await waiting == VMExit(False, "QEMU ended, and only its parent can learn its exit status")
        await hypervisor.stop(1)
        await hypervisor.aclose()

    asyncio.run(run())


def test_a_vm_can_be_stopped_while_another_owner_holds_its_monitor(make: Make, owner: Owner, unbootable: Boot) -> None:
    child, saved = owner(unbootable)

    async def run() -> None:
        hypervisor = make(boot=None, saved=saved)
        await hypervisor.stop(4)
        await hypervisor.aclose()

    asyncio.run(run())
    assert child.stdout is not None
    assert b"terminating on signal 15" in child.stdout.readline()
    assert child.wait(10) == 0


def test_a_vm_that_ended_while_no_process_watched_it_counts_as_ended(
    make: Make, owner: Owner, unbootable: Boot, tmp_path: Path
) -> None:
    child, saved = owner(unbootable)
    os.kill(saved["process"]["pid"], signal.SIGKILL)
    assert child.wait(10) == 0

    async def run() -> None:
        hypervisor = make(boot=None, saved=saved)
        assert await hypervisor.wait() == VMExit(False, "QEMU ended while no process watched it")
        with pytest.raises(HypervisorError, match="has ended"):
            await hypervisor.open_channel("test")
        await hypervisor.stop(1)
        await hypervisor.aclose()

    asyncio.run(run())
    assert left_in(tmp_path) == ["console.log", "qemu.log"]


@pytest.mark.parametrize("changed", [{"boot_id": "another boot"}, {"start_time": 1}])
def test_a_process_that_only_has_the_same_pid_is_not_signalled(make: Make, changed: dict[str, object]) -> None:
    identity = ProcessIdentity.of(os.getpid())
    assert identity is not None
    saved = {"process": {**identity.to_mapping(), **changed}, "acceleration": "tcg", "channels": {}}

    async def run() -> None:
        hypervisor = make(boot=None, saved=saved)
        await hypervisor.stop(1)
        assert (await hypervisor.wait()).reason == "QEMU ended while no process watched it"

    asyncio.run(run())


@pytest.mark.parametrize("saved", [{"process": 1}, {"process": {}, "channels": {}}, {"process": {}, "channels": []}])
def test_a_damaged_record_is_refused(make: Make, saved: dict[str, object]) -> None:
    with pytest.raises(HypervisorError, match="saved state of the VM of pod 'p1' is damaged"):
        make(saved=saved)


def test_ten_vms_in_a_row_leave_no_descriptors(make: Make) -> None:
    """Descriptors are counted here, after each life; the census of each test counts processes, too."""

    async def run() -> None:
        counts = set()
        for _ in range(10):
            hypervisor = make()
            await hypervisor.prepare(10)
            await hypervisor.stop(10)
            await hypervisor.aclose()
            counts.add(len(os.listdir("/proc/self/fd")))  # noqa: PTH208 - a count of entries, not paths
        assert len(counts) == 1

    asyncio.run(run())
