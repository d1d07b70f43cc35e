"""What the configuration of a pod and its containers demands of the agent, which may lack the capability for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType

from vc_core.config.container import Cmd, ContainerConfig
from vc_core.driver.agent import Agent, AgentCapability, Confinement
from vc_core.errors import NotSupportedError

#: The capability that a field of ContainerConfig needs of the agent. All other fields of Confinement need LIMITS.
_NEEDED: Mapping[str, AgentCapability] = MappingProxyType(
    {
        "cpus": AgentCapability.UPDATE,
        "isolate": AgentCapability.ISOLATION,
        "masked_paths": AgentCapability.MOUNT_OPTIONS,
        "pid_namespace": AgentCapability.PID_NAMESPACE,
        "read_only_paths": AgentCapability.MOUNT_OPTIONS,
    }
)

#: The fields of Cmd that need PROCESS_LIMITS.
_OF_COMMANDS = ("exact_groups", "umask", "capabilities", "rlimits", "no_new_privs", "oom_score_adj")


def confinement(agent: Agent, config: ContainerConfig) -> Confinement:
    """Return what a container's processes may do. Raises NotSupportedError for what the agent cannot set."""
    wanted = {one.name: getattr(config, one.name) for one in fields(Confinement)}
    usual = Confinement()
    lacking = [
        name
        for name, value in wanted.items()
        if value != getattr(usual, name) and _NEEDED.get(name, AgentCapability.LIMITS) not in agent.capabilities
    ]
    if lacking == ["isolate"]:
        raise NotSupportedError(
            f"container {config.id!r} has isolate, but the agent of its pod separates no containers; leave it out, or "
            "give the container a pod of its own"
        )
    if lacking:
        raise _lacks(f"container {config.id!r}", lacking)
    if config.memory and not config.overlay_size:
        # What fills memory that cannot be freed must leave room: a container without any only waits for it.
        wanted["overlay_size"] = max(1, config.memory // 2)
    return Confinement(**wanted)


def _lacks(what: str, names: list[str]) -> NotSupportedError:
    return NotSupportedError(f"{what} has {', '.join(names)}, which the agent of its pod cannot set; leave it out")


def check_container(agent: Agent, config: ContainerConfig, shm_size: int) -> None:
    """Raise NotSupportedError for what a container has besides its confinement and the agent cannot make."""
    for name, needed in (("seccomp", AgentCapability.SECCOMP), ("devices", AgentCapability.DEVICES)):
        if getattr(config, name) and needed not in agent.capabilities:
            raise _lacks(f"container {config.id!r}", [name])
    if AgentCapability.MOUNT_OPTIONS in agent.capabilities:
        return
    for mount in config.mounts:
        if mount.type == "tmpfs":
            raise _lacks(f"container {config.id!r}", [f"a tmpfs on {mount.target!r}"])
        if lacking := [option for option in mount.options if option != "nodev"]:
            raise _lacks(f"the mount on {mount.target!r} of container {config.id!r}", list(lacking))
    if shm_size:
        raise _lacks(f"the pod of container {config.id!r}", ["shm_size"])


def check_writable_root(agent: Agent, container_id: str) -> None:
    """Raise NotSupportedError if the agent lets no container write to the directory that is its root."""
    if AgentCapability.WRITABLE_ROOTS not in agent.capabilities:
        raise lacks_writable_roots(container_id)


def lacks_writable_roots(container_id: str) -> NotSupportedError:
    """Return the error for a container whose agent lets none write to the directory that is its root."""
    return NotSupportedError(
        f"container {container_id!r} has writable_root_fs, and the agent of its pod lets no container write to the "
        "directory that is its root; leave it out, or mount a directory for what must last"
    )


def check_command(agent: Agent, what: str, cmd: Cmd) -> None:
    """Raise NotSupportedError for what a command has of its own and the agent cannot set; ``what`` names it."""
    usual = Cmd()
    own = [name for name in _OF_COMMANDS if getattr(cmd, name) != getattr(usual, name)]
    if own and AgentCapability.PROCESS_LIMITS not in agent.capabilities:
        raise _lacks(what, own)


def check_freeze(agent: Agent, container_id: str) -> None:
    """Raise NotSupportedError if the agent cannot pause a container."""
    if AgentCapability.FREEZE not in agent.capabilities:
        raise NotSupportedError(f"container {container_id!r} cannot be paused by the agent of its pod; stop it instead")


def check_update(agent: Agent, container_id: str) -> None:
    """Raise NotSupportedError if the agent cannot change the limits of a container that runs."""
    if AgentCapability.UPDATE not in agent.capabilities:
        raise NotSupportedError(
            f"the limits of container {container_id!r} cannot be changed by the agent of its pod while it runs; stop "
            "it first"
        )


def check_sysctls(agent: Agent, what: str, sysctls: Mapping[str, str]) -> None:
    """Raise NotSupportedError for settings of the kernel that the agent cannot make; ``what`` names the pod."""
    if sysctls and AgentCapability.SYSCTLS not in agent.capabilities:
        raise _lacks(what, ["sysctls"])
