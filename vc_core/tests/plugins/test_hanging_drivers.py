"""A driver that hangs, in whatever way, ends as an error that names it, and keeps no command and no process."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

import distributions
import vc_core as vc
from vc_core.driver.process import ProcessIdentity
from vc_core.errors import DriverContractError, DriverLoadError, SupervisorLostError
from vc_core.host.processes import find_supervisors
from vc_core.plugins import event_loop, hook_calls, limits, registry
from vc_core.plugins.notifications import QUEUE
from vc_core.store.status import vm_identity
from vc_core.store.store import Store
from vc_core.supervisor.wire import LOG_NAME
from waiting import PATIENCE

pytestmark = pytest.mark.slow

#: A hypervisor that works as mock does, until the file that a variable names says how it hangs.
BLOCKING = """
    import asyncio, os, threading
    from pathlib import Path
    from vc_core.driver import hookimpl
    from vc_hypervisor_mock import MockPlugin
    from vc_hypervisor_mock.hypervisor import MockHypervisor

    END = threading.Event()

    def begins(what):
        file = Path(os.environ["VC_BLOCKING"])
        if file.exists() and file.read_text(encoding="utf-8") == what:
            file.with_name("began").touch()
            return True

    class BlockingHypervisor(MockHypervisor):
        async def stop(self, timeout):
            if begins("stop blocks"):
                END.wait()
            if begins("stop waits"):
                await asyncio.Event().wait()
            if begins("stop works in a thread"):
                await asyncio.to_thread(END.wait)
            while begins("stop ignores its cancellation"):
                try:
                    await asyncio.sleep(1000)
                except asyncio.CancelledError:
                    pass
            await super().stop(timeout)

    class Plugin(MockPlugin):
        @hookimpl
        def vc_hypervisor_create(self, pod, config, saved):
            if begins("create blocks"):
                END.wait()
            return BlockingHypervisor(pod, config, saved)

    if begins("import blocks"):
        END.wait()
"""

#: The hypervisor of the page that shows how to write one, whose VM is a process, with a stop that can block.
PAGE = Path(__file__).parents[3] / "docs/how-to/write-a-hypervisor.md"
NAP = """
{hypervisor}

import threading
from pathlib import Path
from vc_core.driver import hookimpl

class BlockingNap(NapHypervisor):
    async def stop(self, timeout):
        how = Path(os.environ["VC_BLOCKING"])
        if how.exists():
            how.with_name("began").touch()
            threading.Event().wait()
        await super().stop(timeout)

class Plugin:
    @hookimpl
    def vc_hypervisor_create(self, pod, config, saved):
        return BlockingNap(pod, config, saved)
"""


@pytest.fixture
def block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file that makes a driver hang as it says; the file ``began`` beside it appears when it does."""
    site = tmp_path / "site"
    distributions.install(site, "blocking", "hypervisors", "blocking", BLOCKING)
    text = next(one for one in PAGE.read_text(encoding="utf-8").split("```") if "class NapHypervisor" in one)
    source = text.removeprefix("python").replace("from vc_hypervisor_nap.config import NapConfig", "")
    distributions.install(site, "nap", "hypervisors", "blocking-nap", NAP.format(hypervisor=source.strip()))
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.setenv("VC_BLOCKING", str(tmp_path / "block"))
    yield tmp_path / "block"
    if module := sys.modules.pop("stranger_blocking", None):
        module.END.set()
    QUEUE.drain(PATIENCE)  # whose thread starts others
    for thread in threading.enumerate():
        if thread.name.startswith(("pod ", "a call")):
            thread.join(PATIENCE)


@pytest.fixture
def running(block: Path) -> vc.Pod:
    """A pod that runs in this process' drivers."""
    return vc.run_pod(CONFIG)


CONFIG = vc.PodConfig(id="p1", hypervisor_type="blocking", agent_type="noop")


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("how", "what_was_done"),
    [
        ("stop waits", "it was cancelled"),
        ("stop works in a thread", "it was cancelled"),
        ("stop ignores its cancellation", "it ignored its cancellation and was left behind"),
    ],
)
def test_an_async_method_that_never_returns_ends_with_an_error_that_names_it(
    running: vc.Pod, block: Path, monkeypatch: pytest.MonkeyPatch, how: str, what_was_done: str
) -> None:
    for name in ("MARGIN", "CANCEL_TIMEOUT"):
        monkeypatch.setattr(limits, name, 0.1)
    monkeypatch.setattr(event_loop, "_END_TIMEOUT", 0.1)
    block.write_text(how, encoding="utf-8")
    with pytest.raises(DriverContractError) as caught:
        running.stop(timeout=0.1)  # the VM gets a second at least
    assert str(caught.value) == (
        "hypervisor driver 'blocking' of stranger-blocking 7.8 did not return from stop within 1.1 s; " + what_was_done
    )
    assert running.status().state == "failed"
    block.unlink()
    running.delete(force=True)


@pytest.mark.promise("T25")
@pytest.mark.parametrize(
    ("how", "limit", "error", "sentence"),
    [
        (
            "create blocks",
            (hook_calls, "HOOK_TIMEOUT"),
            DriverContractError,
            "of stranger-blocking 7.8 did not return from vc_hypervisor_create within",
        ),
        (
            "import blocks",
            (registry, "LOAD_TIMEOUT"),
            DriverLoadError,
            "hypervisor driver 'blocking' of stranger-blocking 7.8 did not load within 0.3 s",
        ),
    ],
)
def test_a_hook_or_an_import_that_never_returns_ends_with_an_error_that_names_it(
    block: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
    limit: tuple[ModuleType, str],
    error: type[vc.VCError],
    sentence: str,
) -> None:
    monkeypatch.setattr(*limit, 0.3)
    block.write_text(how, encoding="utf-8")
    with pytest.raises(error, match=sentence):
        vc.create_pod(CONFIG)
    assert vc.list_pods() == []


@contextmanager
def short_patience(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave a method behind after 0.3 s; a busy host may need as long for one that does not block."""
    with monkeypatch.context() as patch:
        patch.setattr(event_loop, "BLOCK_TIMEOUT", 0.3)
        patch.setattr(event_loop, "_INTERVAL", 0.05)
        yield


def test_a_method_that_blocks_is_left_behind_with_an_error_that_names_it(
    running: vc.Pod, block: Path, mock_config: Callable[..., vc.PodConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    block.write_text("stop blocks", encoding="utf-8")
    with short_patience(monkeypatch), pytest.raises(DriverContractError) as caught:
        running.stop()
    assert "hypervisor driver 'blocking' of stranger-blocking 7.8 blocks the event loop" in str(caught.value)
    assert "BlockingHypervisor.stop" in str(caught.value)

    other = vc.run_pod(mock_config("other"))
    other.stop()
    assert running.status().state == "running"


def test_a_thread_that_was_left_behind_neither_locks_nor_changes_its_pod(
    running: vc.Pod, block: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    block.write_text("stop blocks", encoding="utf-8")
    with short_patience(monkeypatch), pytest.raises(DriverContractError):
        running.stop()
    (left,) = [thread for thread in threading.enumerate() if thread.name == "pod p1"]
    block.unlink()
    running.stop()
    running.start()
    before = store.read("p1")
    sys.modules["stranger_blocking"].END.set()  # the method returns after all
    left.join(PATIENCE)
    assert not left.is_alive()
    assert store.read("p1") == before
    running.delete(force=True)


@pytest.mark.parametrize(
    ("how", "signum", "status"),
    [
        ("stop blocks", signal.SIGINT, 130),
        ("stop blocks", signal.SIGTERM, 143),
        ("stop blocks", None, 1),
        ("create blocks", signal.SIGINT, 130),
        ("import blocks", signal.SIGTERM, 143),
    ],
)
def test_a_command_ends_although_a_driver_blocks(
    running: vc.Pod, block: Path, how: str, signum: signal.Signals | None, status: int
) -> None:
    block.write_text(how, encoding="utf-8")
    create = ["create", "--hypervisor", "blocking", "--agent", "noop"]
    operation = ["stop", "p1"] if how.startswith("stop") else create
    virtc = Path(sys.executable).with_name("virtc")
    with subprocess.Popen(
        [virtc, "pod", *operation], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8"
    ) as command:
        try:
            if signum is not None:
                wait_for(block.with_name("began").exists, "the command never called the driver")
                command.send_signal(signum)
            _, errors = command.communicate(timeout=PATIENCE)
        finally:
            command.kill()
    assert command.returncode == status, errors
    if signum is None:
        assert "hypervisor driver 'blocking' of stranger-blocking 7.8 blocks the event loop" in errors


@pytest.fixture
def supervised(block: Path, store: Store, tmp_path: Path) -> Iterator[tuple[ProcessIdentity, ProcessIdentity]]:
    """The supervisor and the VM of the pod "p1"."""
    for name in ("kernel", "image"):
        (tmp_path / name).touch()
    (tmp_path / "bundle/rootfs/bin").mkdir(parents=True)
    hypervisor = vc.HypervisorConfig(kernel_path=str(tmp_path / "kernel"), image_path=str(tmp_path / "image"))
    container = vc.ContainerConfig(id="c1", root_fs=str(tmp_path / "bundle"), cmd=vc.Cmd(args=["sleep", "1000"]))
    vc.run_pod(
        vc.PodConfig(
            id="p1",
            hypervisor_type="blocking-nap",
            hypervisor_config=hypervisor,
            agent_type="noop",
            containers=[container],
        )
    )
    (supervisor,) = find_supervisors("p1", store.roots.pod_run_dir("p1") / LOG_NAME, store.roots.pod_lock("p1"))
    vm = vm_identity(store.read("p1"))
    assert vm is not None
    yield supervisor, vm
    block.unlink(missing_ok=True)
    vc.delete_pod("p1", force=True)
    assert not vm.alive()


@pytest.mark.root
def test_a_supervisor_that_a_driver_blocks_answers_ends_and_is_replaced(
    supervised: tuple[ProcessIdentity, ProcessIdentity], block: Path
) -> None:
    supervisor, vm = supervised
    block.touch()
    with pytest.raises(DriverContractError) as caught:
        vc.stop_pod("p1")
    assert "hypervisor driver 'blocking-nap' of stranger-nap 7.8 blocks the event loop" in str(caught.value)
    assert "BlockingNap.stop" in str(caught.value)
    assert supervisor.wait(PATIENCE)
    assert vm.alive()
    assert vc.status_pod("p1").state == "running"
    block.unlink()
    vc.stop_pod("p1")
    assert vc.status_pod("p1").state == "stopped"


@pytest.mark.root
def test_sigterm_ends_a_supervisor_that_a_driver_blocks(
    supervised: tuple[ProcessIdentity, ProcessIdentity], block: Path
) -> None:
    supervisor, vm = supervised
    block.touch()
    errors: list[BaseException] = []

    def stop() -> None:
        try:
            vc.stop_pod("p1")
        except vc.VCError as error:
            errors.append(error)

    client = threading.Thread(target=stop)
    client.start()
    wait_for(block.with_name("began").exists, "the supervisor never called the driver")
    supervisor.send(signal.SIGTERM)
    assert supervisor.wait(PATIENCE)
    client.join(PATIENCE)
    assert [type(error) for error in errors] == [SupervisorLostError]
    assert vm.alive()
