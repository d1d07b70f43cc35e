"""Makes templates: starts a VM of a pod's kind, saves it when its guest is ready, and proves that a clone of it runs.

``python -m vc_core.engine.templates KIND`` does it behind a pod that was started without one, in a process of its own;
the pod's configuration is its standard input.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from vc_core.config.ids import pod_uuid
from vc_core.config.pod import PodConfig
from vc_core.driver.agent import Agent, AgentCapability
from vc_core.driver.context import Boot, PodContext
from vc_core.driver.devices import BlockDevice, Channel, Device, NetworkInterface, SharedDirectory
from vc_core.driver.guest import Progress
from vc_core.driver.hypervisor import Hypervisor, HypervisorCapability
from vc_core.engine import assembly, guest_image
from vc_core.engine.machine import READY_TIMEOUT, VM_TIMEOUT
from vc_core.errors import BusyError, NotSupportedError, StateError, VCError
from vc_core.host import processes
from vc_core.results import TemplateStatus
from vc_core.store import files
from vc_core.store.config_record import decode_config, encode_config
from vc_core.store.roots import CACHE_VARIABLE, Roots
from vc_core.store.settings import read_settings
from vc_core.store.templates import Templates

if TYPE_CHECKING:
    from vc_core.plugins.registry import Plugins

#: What a VM that makes a template is called, for people who look at processes.
_ID = "template"

#: How much less of the processors than a pod the maker behind it gets (nice(2)).
_NICENESS = 10

_log = logging.getLogger(__name__)


def make_behind(config: PodConfig, kind: str, roots: Roots) -> None:
    """Start a process that makes the template of a kind, of which ``config`` describes a pod. Blocks for milliseconds.

    Called when a pod was started without a template. Failures are logged, also those of the process, whose error output
    is that of this one.
    """
    words = [sys.executable, "-P", "-m", "vc_core.engine.templates", kind]
    try:
        fd = os.memfd_create("config")
        try:
            os.write(fd, encode_config(config))
            os.lseek(fd, 0, os.SEEK_SET)
            subprocess.run(  # a child of init: nobody here waits for its end
                ["setsid", "--fork", *words],
                stdin=fd,
                stdout=subprocess.DEVNULL,
                check=True,
                cwd="/",
                # Named, because in the user namespace of a plain user's pod the user is root.
                env={**roots.environment, CACHE_VARIABLE: str(roots.cache)},
            )
        finally:
            os.close(fd)
    except (OSError, subprocess.CalledProcessError, VCError) as error:
        _log.warning("template %s cannot be made: %s", kind, error)


async def make(
    plugins: Plugins, config: PodConfig, roots: Roots, progress: Progress, expected: str = ""
) -> TemplateStatus:
    """Make the template for pods with a configuration, in the place of one that is there, and return what it is.

    ``expected``: the kind that it must have. Raises NotSupportedError for a kind of VM that cannot be cloned, BusyError
    when another process makes it, ConfigError, StorageError, DriverError, GuestError, HypervisorError, AgentError.
    """
    size_max = read_settings(roots.environment).templates.size
    boot = await guest_image.resolve(plugins, config, roots.cache, progress)
    store = Templates(roots.cache)
    kind = await _kind(plugins, config, boot, roots)
    if not kind or expected not in ("", kind):
        raise NotSupportedError(
            f"no template can be made for this pod: hypervisor {config.hypervisor_type!r}, agent {config.agent_type!r} "
            "or the guest cannot be cloned with its devices"
        )
    with store.making(kind, end_leftovers) as making:
        progress("starting the VM of the template", None)
        async with _machine(plugins, config, boot, making, new=True) as (hypervisor, agent):
            await agent.settle(hypervisor.open_channel, READY_TIMEOUT)
            await hypervisor.save_template(VM_TIMEOUT)
        progress("starting a clone of it", None)
        async with _machine(plugins, config, boot, making, new=False) as (hypervisor, agent):
            await agent.wake(hypervisor.open_channel, READY_TIMEOUT)  # no start waits for it
        files.remove_tree(_run_dir(making))
        size = config.vm_config
        return store.publish(
            making,
            hypervisor=config.hypervisor_type,
            agent=config.agent_type,
            memory=size.memory,
            vcpus=size.vcpus,
            size_max=size_max,
        )


async def _kind(plugins: Plugins, config: PodConfig, boot: Boot, roots: Roots) -> str:
    hypervisor, agent = _drivers(plugins, config, boot, roots.run)
    try:
        able = HypervisorCapability.TEMPLATES in hypervisor.capabilities
        return await hypervisor.kind(VM_TIMEOUT) if able and AgentCapability.CLONES in agent.capabilities else ""
    finally:
        await agent.aclose()
        await hypervisor.aclose()


def _drivers(plugins: Plugins, config: PodConfig, boot: Boot, run_dir: Path) -> tuple[Hypervisor, Agent]:
    """Return the drivers' objects for a VM that has the devices of a pod, but nothing that is a pod's own."""
    pod = replace(PodContext.of(config, run_dir, boot), id=_ID)
    hypervisor, agent = assembly.make_drivers(plugins, config, pod)
    for device in _impersonal(assembly.devices_of(config, agent, pod), pod):
        hypervisor.add_device(device)
    return hypervisor, agent


def _impersonal(devices: Sequence[Device], pod: PodContext) -> Iterator[Device]:
    for device in devices:
        cores = (pod.share_dir, pod.writable_dir, pod.roots_dir)
        if isinstance(device, SharedDirectory) and device.host_path not in cores:
            yield replace(device, host_path=pod.share_dir)
        elif isinstance(device, Channel):
            yield replace(device, host_path=None)
        elif isinstance(device, NetworkInterface):
            yield replace(device, config=replace(device.config, forwards=()), detached=True)
        elif not isinstance(device, BlockDevice):
            yield device


@asynccontextmanager
async def _machine(
    plugins: Plugins, config: PodConfig, boot: Boot, making: Path, *, new: bool
) -> AsyncIterator[tuple[Hypervisor, Agent]]:
    """Yield the drivers' objects of a VM that runs: the one to be saved in ``making``, or a clone of it. Ends it."""
    run_dir = _run_dir(making)
    run_dir.mkdir(mode=0o700, exist_ok=True)
    # Empty, so that every user may look into them; the hypervisor's is another one.
    for name in ("share", "writable", "roots"):
        (run_dir / name).mkdir(exist_ok=True)
        (run_dir / name).chmod(0o755)
    hypervisor, agent = _drivers(plugins, config, boot, run_dir)
    try:
        hypervisor.use_template(making, new=new)
        await agent.prepare()
        await hypervisor.prepare(VM_TIMEOUT)
        await hypervisor.start(VM_TIMEOUT)
        yield hypervisor, agent
    finally:
        await agent.aclose()
        await hypervisor.stop(VM_TIMEOUT)
        await hypervisor.aclose()


def _run_dir(making: Path) -> Path:
    return making / "run"


def end_leftovers(making: Path) -> None:
    """Kill the VM that a former maker has left. Raises StateError."""
    run_dir = _run_dir(making)
    for identity in processes.find_vms(run_dir, pod_uuid(run_dir)):
        if not identity.kill(VM_TIMEOUT):
            raise StateError(f"process {identity.pid} of a template cannot be killed; try again later")


def main(kind: str) -> None:
    """Make the template of a kind for the pod whose configuration is the standard input; print why that fails."""
    from vc_core.plugins import event_loop
    from vc_core.plugins.registry import Plugins

    roots = Roots.from_environment()
    os.nice(_NICENESS)
    try:
        config = decode_config(sys.stdin.buffer.read(), "standard input")
        work = make(Plugins(), config, roots, lambda *_: None, kind)
        event_loop.run(work, event_loop.Watchdog(_fail))
    except BusyError:
        pass  # another pod of this kind was started at the same time
    except VCError as error:
        with suppress(VCError):
            Templates(roots.cache).refuse(kind, str(error))
        _fail(error)
    os._exit(0)  # without the threads of a driver that hang


def _fail(error: VCError) -> NoReturn:
    os.write(2, f"no template was made: {error}\n".encode())
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1])
