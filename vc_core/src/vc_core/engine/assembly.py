"""Makes the driver objects of a pod, lists the devices of its VM, and refuses a pod that could never start."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from vc_core.config.container import ContainerConfig
from vc_core.config.network import NetworkConfig, NetworkMode
from vc_core.config.pod import PodConfig
from vc_core.driver.agent import Agent
from vc_core.driver.context import PodContext
from vc_core.driver.devices import BlockDevice, Channel, Device, GuestPort, NetworkInterface, SharedDirectory
from vc_core.driver.hypervisor import Hypervisor, HypervisorCapability
from vc_core.driver.kinds import PluginKind
from vc_core.driver.spawner import Spawner
from vc_core.engine.demands import lacks_writable_roots
from vc_core.engine.guest_image import guest_driver
from vc_core.errors import ConfigError, DriverContractError, VCError
from vc_core.host import sources
from vc_core.host.paths import Rules
from vc_core.host.sources import PodSources, Source
from vc_core.store.roots import Roots

if TYPE_CHECKING:
    from vc_core.plugins.registry import Plugins

#: The capability that a hypervisor needs for each kind of device, and the noun of an error message.
_NEEDED = (
    (Channel, HypervisorCapability.CHANNELS, "channels"),
    (SharedDirectory, HypervisorCapability.SHARED_DIRECTORIES, "shared directories"),
    (BlockDevice, HypervisorCapability.BLOCK_DEVICES, "disks"),
    (NetworkInterface, HypervisorCapability.NETWORK, "a network"),
    (GuestPort, HypervisorCapability.GUEST_PORTS, "ports of the guest"),
)
_OWNERS = HypervisorCapability.OWNERS


def load(plugins: Plugins, config: PodConfig, roots: Roots) -> None:
    """Load what the start of a pod calls: extensions, drivers, and the modules that these import when they are used.

    Called while the pod is checked, which raises the errors that are ignored here.
    """
    plugins.load_extensions()
    with suppress(VCError):
        make_drivers(plugins, config, PodContext.of(config, roots.pod_run_dir(config.id)))
        plugins.guest(guest_driver(plugins, config))


def make_drivers(
    plugins: Plugins,
    config: PodConfig,
    pod: PodContext,
    saved_hypervisor: Mapping[str, object] | None = None,
    saved_agent: Mapping[str, object] | None = None,
) -> tuple[Hypervisor, Agent]:
    """Return a pod's hypervisor and agent objects, for a new VM or with what the objects of a running one saved.

    Raises ConfigError, DriverError.
    """
    hypervisor = make_hypervisor(plugins, config, pod, saved_hypervisor)
    agent = plugins.agent(config.agent_type)
    agent_config = agent.config(config.agent_config)
    spawner = _spawner(plugins, *agent.spawner(agent_config, plugins.names(PluginKind.SPAWNER)))
    return hypervisor, agent.create(pod, agent_config, spawner, saved_agent)


def make_hypervisor(
    plugins: Plugins, config: PodConfig, pod: PodContext, saved: Mapping[str, object] | None = None
) -> Hypervisor:
    """Return a pod's hypervisor object, for a new VM or with what the object of a running one saved.

    Raises ConfigError, DriverError.
    """
    driver = plugins.hypervisor(config.hypervisor_type)
    return driver.create(pod, driver.config(config.hypervisor_config.options), saved)


def _spawner(plugins: Plugins, name: str, options: Mapping[str, object]) -> Spawner | None:
    """Return the spawner that an agent's configuration names, made with its options; None for no name.

    Raises ConfigError, DriverError.
    """
    if not name:
        return None
    spawner = plugins.spawner(name)
    return spawner.create(spawner.config(options))


def devices_of(config: PodConfig, agent: Agent, pod: PodContext) -> list[Device]:
    """Return the devices of a pod's VM without its disks: those that the agent needs and those of the configuration."""
    return [
        *agent.devices(),
        *(SharedDirectory(one.mount_tag, Path(one.host_path), one.read_only) for one in config.volumes),
        *(Channel(one.id, one.name, Path(one.host_path)) for one in config.sockets),
        *_interfaces(config.network, pod),
    ]


def disks_of(config: PodConfig, opened: PodSources) -> list[BlockDevice]:
    """Return the disks among the roots of a pod's containers, in their order."""
    disks = (
        root_disk(container, one.root) for container, one in zip(config.containers, opened.containers, strict=True)
    )
    return [disk for disk in disks if disk is not None]


def root_disk(container: ContainerConfig, root: Source) -> BlockDevice | None:
    """Return the disk that is a container's root, None if that is a directory."""
    if not root.fstype:
        return None
    return BlockDevice(disk_id(container.id), root.path, not container.writable_root_fs, root.fd)


def writes_roots(config: PodConfig, opened: PodSources) -> bool:
    """Return whether a container of a pod writes to the directory that is its root."""
    every = zip(config.containers, opened.containers, strict=True)
    return any(container.writable_root_fs and not one.root.fstype for container, one in every)


def disk_id(container_id: str) -> str:
    """Return the id that a container's root has as a disk of the VM."""
    return f"root-{container_id}"


def _interfaces(network: NetworkConfig, pod: PodContext) -> Iterator[NetworkInterface]:
    """Return the interfaces of a pod in their order in the guest."""
    if network.mode is NetworkMode.NONE:
        return
    further = (
        NetworkConfig(
            mode=NetworkMode.TAP,
            device=one.device,
            addresses=one.addresses,
            routes=one.routes,
            mac=one.mac,
            mtu=one.mtu,
        )
        for one in network.interfaces
    )
    # 52:54:00 is the prefix that QEMU and libvirt give to virtual machines; the rest differs between pods of a host.
    own = int.from_bytes(hashlib.sha256(pod.uuid.encode()).digest()[:3], "big")
    for number, config in enumerate((network, *further)):
        derived = bytes.fromhex("525400") + ((own + number) % 2**24).to_bytes(3, "big")
        yield NetworkInterface.of(config, config.mac or derived.hex(":"))


def check(plugins: Plugins, config: PodConfig, roots: Roots) -> bool:
    """Refuse a pod that could never start, before anything is stored; return whether it needs a supervisor.

    It does if its VM is a process.
    Raises ConfigError, DriverError.
    """
    writers = [one.id for one in config.containers if one.writable_root_fs and Path(one.root_fs).is_dir()]
    pod = PodContext.of(config, roots.pod_run_dir(config.id), writes_roots=bool(writers))
    hypervisor, agent = make_drivers(plugins, config, pod)
    devices = devices_of(config, agent, pod)
    if writers and not any(isinstance(device, SharedDirectory) and device.owners for device in devices):
        raise lacks_writable_roots(writers[0])
    _check_devices(config, hypervisor, devices)
    if config.hypervisor_config.guest_options:
        plugins.guest(guest_driver(plugins, config)).config(config.hypervisor_config.guest_options)
    if HypervisorCapability.PROCESS not in hypervisor.capabilities:
        return False
    if not config.hypervisor_config.kernel_path:
        plugins.guest(guest_driver(plugins, config))
    rules = Rules(roots)
    for _, volume in sources.open_volumes(devices, pod.run_dir, rules):
        volume.close()
    with closing(sources.open_pod(config, rules)) as opened:
        _check_devices(config, hypervisor, disks_of(config, opened))
    return True


def _check_devices(config: PodConfig, hypervisor: Hypervisor, wanted: Iterable[Device]) -> None:
    """Refuse devices that the hypervisor cannot give to a VM. Raises ConfigError, and DriverContractError for others.

    A driver may derive its own classes from those of ``vc_core.driver.devices``.
    """
    wanted = list(wanted)
    if (
        sum(isinstance(device, NetworkInterface) for device in wanted) > 1
        and HypervisorCapability.INTERFACES not in hypervisor.capabilities
    ):
        raise ConfigError(
            f"the pod has several network interfaces, and hypervisor {config.hypervisor_type!r} gives a VM one; "
            "leave the further ones out, or choose another hypervisor"
        )
    for device in wanted:
        if isinstance(device, SharedDirectory) and device.owners and _OWNERS not in hypervisor.capabilities:
            raise ConfigError(
                f"the pod has writable_root_fs with a directory, or writable_roots, and hypervisor "
                f"{config.hypervisor_type!r} cannot keep what a guest writes there off the host's users; leave it out, "
                "or choose another hypervisor"
            )
        needed, what = next(((needed, what) for kind, needed, what in _NEEDED if isinstance(device, kind)), (None, ""))
        if needed is None:
            raise DriverContractError(
                f"agent driver {config.agent_type!r} asks for {device!r}, which is no device of vc_core.driver.devices",
                kind="agent",
                name=config.agent_type,
            )
        if needed not in hypervisor.capabilities:
            raise ConfigError(
                f"the pod needs {what}, which hypervisor {config.hypervisor_type!r} does not have; "
                f"choose another hypervisor, or another agent than {config.agent_type!r} if that asks for it"
            )
