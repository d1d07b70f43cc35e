"""A guest whose agent lies, floods and never ends what it began (hostile.c), against a real supervisor and virtc."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import vc_core as vc
from needs import require
from vc_core.driver import GuestPayload
from vc_core.errors import AgentError, VCError
from vc_core.results import ExecResult
from vc_core.states import State
from vc_core.store.roots import ROOT_VARIABLE, Roots
from vc_core.testing import built_guest
from vc_core.testing.slowness import scaled, within
from waiting import PATIENCE

from .attacked_pod import find_supervisor

pytestmark = [pytest.mark.vm, pytest.mark.slow]

#: What the guest prints wherever it can.
SHOWN = b"\x1b]0;owned\x07\r\nforged\xc2\x9b31m\xe2\x80\xae\xff\n"

_DIRECTIONS = "\u202e\u2066"

#: Bytes that the supervisor may need for a stream that is not read (guest-protocol.md, Credit).
WINDOW = 524288


class HostilePod:
    """The pod of the hostile guest."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.run_dir = Roots.from_environment().pod_run_dir("hostile")

    def attack(self, name: str, timeout: float = 60) -> ExecResult:
        return vc.enter_pod("hostile", vc.Cmd(args=[name]), timeout=scaled(timeout))

    def virtc(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = [str(Path(sys.executable).with_name("virtc")), *arguments]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def shown(self, *arguments: str) -> str:
        """Return what virtc prints, which no terminal may understand as more than text."""
        with self.virtc(*arguments) as process:
            out, err = process.communicate(timeout=PATIENCE)
        text = (out + err).decode()
        assert all(line.isprintable() for line in text.split("\n"))
        assert not set(_DIRECTIONS) & set(text)
        return text

    def supervisor_memory(self) -> int:
        """Return the resident bytes of the pod's supervisor (proc(5), VmRSS in kB)."""
        supervisor = find_supervisor("hostile", self.top / "root")
        assert supervisor is not None, "the pod has no supervisor"
        return int(supervisor.status["VmRSS"].split()[0]) * 1024


@pytest.fixture(scope="module")
def pod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostilePod]:
    require("musl-gcc")
    top = tmp_path_factory.mktemp("hostile")
    source = Path(__file__).with_name("hostile.c")
    subprocess.run(["musl-gcc", "-static", "-Os", "-Wall", "-Wextra", "-s", "-o", top / "init", source], check=True)
    payload = GuestPayload({"/init": str(top / "init")}, modules=("virtio_pci", "virtio_console"))
    guest = built_guest("hostile-guest", payload)
    params = [vc.Param(*param.partition("=")[::2]) for param in guest.kernel_params]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ROOT_VARIABLE, str(top / "root"))
        config = vc.HypervisorConfig(
            kernel_path=str(guest.kernel), image_path=str(guest.initramfs), kernel_params=params
        )
        vc.run_pod(vc.PodConfig(id="hostile", hypervisor_type="qemu", hypervisor_config=config))
        try:
            yield HostilePod(top)
        finally:
            vc.delete_pod("hostile", force=True)


@pytest.mark.parametrize("name", ["unknown", "credit"])
def test_floods_for_streams_that_do_not_exist_are_dropped_and_output_arrives(pod: HostilePod, name: str) -> None:
    before = pod.supervisor_memory()
    result = pod.attack(name)
    assert (result.exit_code, result.stdout) == (3, SHOWN)
    assert pod.supervisor_memory() - before < 8 * WINDOW


def test_single_bytes_that_the_caller_does_not_read_cost_the_supervisor_a_window(pod: HostilePod) -> None:
    before = pod.supervisor_memory()
    with pod.virtc("pod", "enter", "hostile", "--", "drip") as process:
        assert process.stdout is not None
        try:
            os.read(process.stdout.fileno(), 1)
            assert pod.attack("reason").exit_code == 127  # it comes after all that the guest sent before
            assert pod.supervisor_memory() - before < 8 * WINDOW
        finally:
            process.kill()


def test_a_reason_of_the_guest_is_one_short_printable_line(pod: HostilePod) -> None:
    result = pod.attack("reason")
    text = result.stderr.decode()
    assert (result.exit_code, result.stdout) == (127, b"")
    assert text.count("\n") == 1
    assert text.rstrip("\n").isprintable()
    assert len(text) < 5000
    assert r"\x1b]0;owned\x07\r\nforged line\x9b31m\u202e" in text
    assert "cannot run 'reason'" in pod.shown("pod", "enter", "hostile", "--", "reason")


def test_what_the_guest_writes_on_its_console_is_a_file_and_no_line_of_a_terminal(pod: HostilePod) -> None:
    assert pod.attack("console").exit_code == 3
    for arguments in (("pod", "list"), ("pod", "status", "hostile"), ("pod", "status", "--json", "hostile")):
        assert "hostile" in pod.shown(*arguments)
    assert all(line.isprintable() for line in (pod.run_dir / "supervisor.log").read_text(encoding="utf-8").split("\n"))


def test_a_command_that_the_guest_accepts_and_never_ends_does_not_hold_enter_against_signals(
    pod: HostilePod,
) -> None:
    with pod.virtc("pod", "enter", "hostile", "--", "never-ends") as process:
        assert process.stdout is not None
        assert os.read(process.stdout.fileno(), 4) == b"runs"
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):  # two of one number can be merged
            process.send_signal(number)
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGINT  # the first of them
    assert b"did not report the end of the command" in err


def test_garbage_on_the_control_channel_fails_the_pod_and_the_pod_still_ends(pod: HostilePod) -> None:
    with pytest.raises(VCError):
        pod.attack("garbage")
    end = time.monotonic() + PATIENCE
    while (status := vc.status_pod("hostile")).state is State.RUNNING and time.monotonic() < end:
        time.sleep(0.05)
    assert status.state is State.FAILED
    assert status.reason.startswith("the agent in the guest is lost: ")
    with pytest.raises((AgentError, vc.StateError)):
        pod.attack("never-ends")
    with within(20):
        vc.stop_pod("hostile", timeout=4)
    assert "hostile" in pod.shown("pod", "status", "hostile")
