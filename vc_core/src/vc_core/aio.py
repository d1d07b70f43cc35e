"""The async API: every function performs one operation.

``vc_core.sync``, the blocking API, is made from this module by ``./dev generate``. Operations are
imported when a function first needs them, so that looking at pods stays fast.
"""

from __future__ import annotations

from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

from vc_core.client import queries
from vc_core.client.interpreters import run_async
from vc_core.errors import PodNotFoundError, VCError
from vc_core.results import ContainerStatus, ExecResult, PodStatus
from vc_core.states import State

if TYPE_CHECKING:
    from vc_core.client.stdio import Output, Stdin
    from vc_core.config.container import Cmd, ContainerConfig
    from vc_core.config.pod import PodConfig
    from vc_core.driver.guest import Progress
    from vc_core.results import ContainerUsage


class Pod:
    """A pod by its ``id``; its operations as methods. As a context manager it is stopped and deleted on leaving."""

    def __init__(self, pod_id: str) -> None:
        self.id = pod_id

    def __repr__(self) -> str:
        return f"Pod({self.id!r})"

    def container(self, container_id: str) -> Container:
        """Return a container of the pod by its id, without looking whether there is one."""
        return Container(self.id, container_id)

    async def start(self, *, timeout: float | None = None, progress: Progress | None = None) -> None:
        """Start the pod; see :func:`start_pod`."""
        await start_pod(self.id, timeout=timeout, progress=progress)

    async def stop(self, *, timeout: float | None = None, force: bool = False) -> None:
        """Stop the pod; see :func:`stop_pod`."""
        await stop_pod(self.id, timeout=timeout, force=force)

    async def delete(self, *, force: bool = False) -> None:
        """Delete the pod; see :func:`delete_pod`."""
        await delete_pod(self.id, force=force)

    async def status(self) -> PodStatus:
        """Return the pod's status; see :func:`status_pod`."""
        return await status_pod(self.id)

    async def enter(
        self,
        cmd: Cmd,
        *,
        stdin: Stdin = None,
        stdout: Output = None,
        stderr: Output = None,
        timeout: float | None = None,
    ) -> ExecResult:
        """Run a command in the pod, outside of its containers; see :func:`enter_pod`."""
        return await enter_pod(self.id, cmd, stdin=stdin, stdout=stdout, stderr=stderr, timeout=timeout)

    async def create_container(self, config: ContainerConfig) -> Container:
        """Add a container to the pod; see :func:`create_container`."""
        return await create_container(self.id, config)

    async def enter_container(
        self,
        container_id: str,
        cmd: Cmd,
        *,
        stdin: Stdin = None,
        stdout: Output = None,
        stderr: Output = None,
        timeout: float | None = None,
    ) -> ExecResult:
        """Run a command in a running container; see :func:`enter_container`."""
        return await enter_container(
            self.id, container_id, cmd, stdin=stdin, stdout=stdout, stderr=stderr, timeout=timeout
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with suppress(PodNotFoundError):
            if (await self.status()).state in (State.RUNNING, State.PAUSED):
                with suppress(VCError):  # what does not stop is killed
                    await self.stop()
            await self.delete(force=True)


class Container:
    """A container of the pod ``pod_id`` by its ``id``; its operations as methods."""

    def __init__(self, pod_id: str, container_id: str) -> None:
        self.pod_id = pod_id
        self.id = container_id

    def __repr__(self) -> str:
        return f"Container({self.pod_id!r}, {self.id!r})"

    async def start(self) -> None:
        """Start the container; see :func:`start_container`."""
        await start_container(self.pod_id, self.id)

    async def stop(self, *, timeout: float | None = None, force: bool = False) -> None:
        """Stop the container; see :func:`stop_container`."""
        await stop_container(self.pod_id, self.id, timeout=timeout, force=force)

    async def kill(self, signal: int | str = "SIGTERM") -> None:
        """Send a signal to the container's main process; see :func:`kill_container`."""
        await kill_container(self.pod_id, self.id, signal)

    async def delete(self, *, force: bool = False) -> None:
        """Delete the container; see :func:`delete_container`."""
        await delete_container(self.pod_id, self.id, force=force)

    async def status(self) -> ContainerStatus:
        """Return the container's status; see :func:`status_container`."""
        return await status_container(self.pod_id, self.id)

    async def stats(self) -> ContainerUsage:
        """Return what the container uses; see :func:`stats_container`."""
        return await stats_container(self.pod_id, self.id)

    async def wait(self) -> int:
        """Return the container's exit code once it ended; see :func:`wait_container`."""
        return await wait_container(self.pod_id, self.id)

    async def enter(
        self,
        cmd: Cmd,
        *,
        stdin: Stdin = None,
        stdout: Output = None,
        stderr: Output = None,
        timeout: float | None = None,
    ) -> ExecResult:
        """Run a command in the container; see :func:`enter_container`."""
        return await enter_container(
            self.pod_id, self.id, cmd, stdin=stdin, stdout=stdout, stderr=stderr, timeout=timeout
        )


async def create_pod(config: PodConfig) -> Pod:
    """Create a pod and its containers; nothing is started.

    Returns the pod. Raises ConfigError for what could never start, PodExistsError for an id that is taken,
    DriverError, PrivilegeError where the hypervisor needs root, StorageError; nothing is left behind then.
    """
    from vc_core.client.pods import create_pod

    return Pod(await run_async(create_pod(config)))


async def start_pod(pod_id: str, *, timeout: float | None = None, progress: Progress | None = None) -> Pod:
    """Start a pod that is ready, stopped or failed, and all of its containers.

    ``timeout``: seconds that the guest has to get ready (default 60). ``progress``: called with a phrase and how much
    of it is done (0 to 1, or None) while the guest is built on first use and while the VM starts.
    Returns the pod. Raises PodNotFoundError, StateError, and whatever kept it from starting (VMStartError,
    AgentTimeoutError, CommandError, GuestError ...); the pod is then what it was.
    """
    from vc_core.client.pods import start_pod

    await run_async(start_pod(pod_id, timeout, None, progress))
    return Pod(pod_id)


async def stop_pod(pod_id: str, *, timeout: float | None = None, force: bool = False) -> Pod:
    """Stop a running or failed pod: its containers end, the guest powers off, the VM's process is gone.

    ``timeout``: seconds until the VM is killed (default 10). ``force``: do not ask the guest.
    Returns the pod. Raises PodNotFoundError, StateError, HypervisorError.
    """
    from vc_core.client.pods import stop_pod

    await run_async(stop_pod(pod_id, timeout, force))
    return Pod(pod_id)


async def delete_pod(pod_id: str, *, force: bool = False) -> None:
    """Delete a pod that does not run. ``force``: whatever its state; what runs is killed.

    Raises PodNotFoundError, StateError, StorageError.
    """
    from vc_core.client.pods import delete_pod

    await run_async(delete_pod(pod_id, force))


async def run_pod(config: PodConfig, *, timeout: float | None = None, progress: Progress | None = None) -> Pod:
    """Create a pod and start it; if the start fails the pod is deleted again.

    ``timeout`` and ``progress`` as for :func:`start_pod`. Returns the pod. Raises what :func:`create_pod` and
    :func:`start_pod` raise.
    """
    from vc_core.client.pods import run_pod

    pod_id, _ = await run_async(run_pod(config, timeout, None, progress))
    return Pod(pod_id)


async def list_pods() -> list[PodStatus]:
    """Return the status of every pod, sorted by id; talks to no guest. Raises StorageError."""
    return await run_async(queries.list_pods())


async def status_pod(pod_id: str) -> PodStatus:
    """Return a pod's status; talks to no guest. Raises PodNotFoundError, StorageError."""
    return await run_async(queries.status_pod(pod_id))


async def enter_pod(
    pod_id: str,
    cmd: Cmd,
    *,
    stdin: Stdin = None,
    stdout: Output = None,
    stderr: Output = None,
    timeout: float | None = None,
) -> ExecResult:
    """Run a command in a running pod, outside of its containers, and wait for its end.

    It runs in the root file system ``PodConfig.root_fs`` where one is given, else in the guest's own. Arguments, result
    and errors are those of :func:`enter_container`, and NotSupportedError from an agent that cannot do this.
    """
    from vc_core.client import containers

    return await run_async(containers.enter_pod(pod_id, cmd, stdin, stdout, stderr, timeout))


async def create_container(pod_id: str, config: ContainerConfig) -> Container:
    """Add a container to a pod, whether that runs or not; the container is not started.

    Returns the container. Raises PodNotFoundError, ContainerExistsError, ConfigError, StorageError.
    """
    from vc_core.client import containers

    return Container(pod_id, await run_async(containers.create_container(pod_id, config)))


async def start_container(pod_id: str, container_id: str) -> Container:
    """Start a container of a running pod, for the first time or again, with a fresh writable layer.

    Returns the container. Raises PodNotFoundError, ContainerNotFoundError, StateError, CommandError.
    """
    from vc_core.client import containers

    await run_async(containers.start_container(pod_id, container_id))
    return Container(pod_id, container_id)


async def stop_container(
    pod_id: str, container_id: str, *, timeout: float | None = None, force: bool = False
) -> Container:
    """Stop a running container: SIGTERM to its main process, SIGKILL after ``timeout`` seconds (default 10).

    ``force``: kill at once. Returns the container. Raises PodNotFoundError, ContainerNotFoundError, StateError.
    """
    from vc_core.client import containers

    await run_async(containers.stop_container(pod_id, container_id, timeout, force))
    return Container(pod_id, container_id)


async def kill_container(pod_id: str, container_id: str, signal: int | str = "SIGTERM") -> None:
    """Send a signal to the main process of a running container, and do not wait for what comes of it.

    ``signal``: a number, or a name such as "SIGHUP" or "HUP". Raises PodNotFoundError, ContainerNotFoundError,
    StateError, ConfigError for a signal that there is not.
    """
    from vc_core.client import containers

    await run_async(containers.kill_container(pod_id, container_id, signal))


async def delete_container(pod_id: str, container_id: str, *, force: bool = False) -> None:
    """Delete a container that does not run, with its log. ``force``: kill it first.

    Raises PodNotFoundError, ContainerNotFoundError, StateError, StorageError.
    """
    from vc_core.client import containers

    await run_async(containers.delete_container(pod_id, container_id, force))


async def status_container(pod_id: str, container_id: str) -> ContainerStatus:
    """Return a container's status; talks to no guest. Raises PodNotFoundError, ContainerNotFoundError, StorageError."""
    return await run_async(queries.status_container(pod_id, container_id))


async def stats_container(pod_id: str, container_id: str) -> ContainerUsage:
    """Return what the processes of a running container used so far, and use now.

    Raises PodNotFoundError, ContainerNotFoundError, StateError, NotSupportedError from an agent that cannot tell.
    """
    from vc_core.client import containers

    return await run_async(containers.stats_container(pod_id, container_id))


async def wait_container(pod_id: str, container_id: str) -> int:
    """Wait until a container ended and return its exit code; any number of callers may wait.

    A container that ended before is no error. Raises PodNotFoundError, ContainerNotFoundError, StateError for one that
    never ran or that ended without an exit code, because its pod was stopped or its VM ended.
    """
    from vc_core.client import containers

    return await run_async(containers.wait_container(pod_id, container_id))


async def enter_container(
    pod_id: str,
    container_id: str,
    cmd: Cmd,
    *,
    stdin: Stdin = None,
    stdout: Output = None,
    stderr: Output = None,
    timeout: float | None = None,
) -> ExecResult:
    """Run a command in a running container and wait for its end.

    ``stdin``: bytes, an open file or a descriptor; None and DEVNULL give no input. ``stdout``, ``stderr``: an open file
    or a descriptor to write to; None and PIPE capture, DEVNULL discards. ``timeout``: seconds after which the
    process is killed in the guest. Cancelling the call, or KeyboardInterrupt in a blocking one, kills it too.
    Returns the exit code (127 not found, 126 not executable, 128+n killed by signal n) and what was captured.
    Raises PodNotFoundError, ContainerNotFoundError, StateError, CommandError for a command that could not be set
    up, CommandTimeoutError, SupervisorLostError, HypervisorError when the VM ends meanwhile.
    """
    from vc_core.client import containers

    return await run_async(containers.enter_container(pod_id, container_id, cmd, stdin, stdout, stderr, timeout))
