"""A second pod's VM, which lives in a mount namespace of its own as under a supervisor, and what its guest reports."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from vc_core.config.network import NetworkConfig, NetworkMode
from vc_core.driver.context import PodContext
from vc_core.driver.devices import Channel, NetworkInterface, SharedDirectory
from vc_core.driver.hypervisor import Hypervisor, HypervisorCapability
from vc_core.errors import ConfigError, NotSupportedError, VCError
from vc_core.host import share
from vc_core.host.sources import Source
from vc_core.testing.contract.hypervisor.base import MAC, STOP, Make
from vc_core.testing.contract.hypervisor.scene import ADDRESS, GATEWAY, MAIN
from vc_core.testing.contract.running import TIMEOUT
from vc_core.testing.probe import ProbingGuest

#: What this guest writes on its console.
MARK = "mark-of-the-neighbour"

# From <linux/sched.h> and <sys/mount.h>.
_CLONE_NEWNS, _MS_REC, _MS_PRIVATE = 0x20000, 0x4000, 0x40000

_libc = ctypes.CDLL(None, use_errno=True)


def enter_mount_namespace() -> None:
    """Move this process into a mount namespace of its own, as a supervisor is. Needs root. Raises OSError."""
    if _libc.unshare(_CLONE_NEWNS) or _libc.mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


async def observe_neighbour(make: Make, pod: PodContext, late: Path, boot_timeout: float) -> Mapping[str, object]:
    """Boot the VM of ``pod``, bind the directory ``late`` into what it shares, and return what its guest reports.

    Runs in a process of its own. The facts are answers of the guest; "" stands for one that succeeded.
    """
    root = os.geteuid() == 0
    if root:
        enter_mount_namespace()
        share.make_shared_dir(pod.share_dir)
    vm = make(pod=pod)
    vm.add_device(Channel("main", MAIN))
    shares = HypervisorCapability.SHARED_DIRECTORIES in vm.capabilities
    if shares:
        vm.add_device(SharedDirectory("share", pod.share_dir))
    network = "the hypervisor does not claim to have network"
    if HypervisorCapability.NETWORK in vm.capabilities:
        config = NetworkConfig(mode=NetworkMode.USER, restrict=True, addresses=[f"{ADDRESS}/24"], gateway=GATEWAY)
        try:
            vm.add_device(NetworkInterface.of(config, MAC))
            network = ""
        except (ConfigError, NotSupportedError) as error:
            network = f"the hypervisor refuses a device: {error}"
    try:
        await vm.prepare(TIMEOUT)
        await vm.start(TIMEOUT)
        if root:
            with Source("the test", str(late)) as source:
                share.bind_into(pod.share_dir, "late", source, users=vm.user_namespace())
        return {"no network": network, **await _ask(vm, boot_timeout, shares and root, not network)}
    except VCError as error:
        return {"failed": f"the VM of a second pod does not start: {error}"}
    finally:
        with suppress(VCError):
            await vm.stop(STOP)
        await vm.aclose()


async def _ask(vm: Hypervisor, boot_timeout: float, shares: bool, network: bool) -> dict[str, object]:
    facts: dict[str, object] = {}
    if (identity := vm.identity()) is not None:
        own, its = (Path(f"/proc/{pid}/ns/mnt").stat().st_ino for pid in ("self", identity.pid))
        facts["same namespace"] = own == its
    with await vm.open_channel(MAIN) as channel:
        guest = ProbingGuest(channel)
        try:
            await guest.reach(boot_timeout)
        except (TimeoutError, ConnectionError):
            return {"failed": f"start() ran no guest: it does not answer on channel {MAIN!r} after {boot_timeout:g} s"}
        if shares:
            await guest.ask("mount", "share")
            facts["late"] = (await guest.ask("read", "/share/share/late/marker")).text
        if network:
            await guest.ask("up", "eth0", ADDRESS)
            with socket.create_server(("127.0.0.1", 0)) as server:
                facts["reached"] = (await guest.ask("connect", GATEWAY, server.getsockname()[1])).ok
        await guest.ask("say", MARK)
    return facts
