"""The async API: every function performs one operation.

``vc_core.operations`` is imported when a function first needs it, so that looking at pods stays fast.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from vc_core import queries
from vc_core.interpreters import run_async
from vc_core.results import ExecResult, PodStatus
from vc_core.states import State

if TYPE_CHECKING:
    from vc_core.config import Cmd, PodConfig
    from vc_core.guest import Progress
    from vc_core.stdio import Output, Stdin


class Pod:
    """A pod by its ``id``; its operations as methods. As a context manager it is stopped and deleted on leaving."""

    def __init__(self, pod_id: str) -> None:
        self.id = pod_id

    def __repr__(self) -> str:
        return f"Pod({self.id!r})"

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
        status = await self.status()
        if status.state in (State.RUNNING, State.PAUSED, State.FAILED):
            await self.stop()
        await self.delete()


async def create_pod(config: PodConfig) -> Pod:
    """Create a pod and its containers; nothing is started.

    Returns the pod. Raises ConfigError for what could never start, PodExistsError for an id that is taken,
    DriverError, PrivilegeError where the hypervisor needs root, StorageError; nothing is left behind then.
    """
    from vc_core import operations

    return Pod(await run_async(operations.create_pod(config)))


async def start_pod(pod_id: str, *, timeout: float | None = None, progress: Progress | None = None) -> Pod:
    """Start a pod that is ready, stopped or failed, and all of its containers.

    ``timeout``: seconds that the guest has to get ready (default 60). ``progress``: called with a phrase and how much
    of it is done (0 to 1, or None) while the guest is built on first use and while the VM starts.
    Returns the pod. Raises PodNotFoundError, StateError, and whatever kept it from starting (VMStartError,
    AgentTimeoutError, CommandError, GuestError ...); the pod is then what it was.
    """
    from vc_core import operations

    await run_async(operations.start_pod(pod_id, timeout, None, progress))
    return Pod(pod_id)


async def stop_pod(pod_id: str, *, timeout: float | None = None, force: bool = False) -> Pod:
    """Stop a running or failed pod: its containers end, the guest powers off, the VM's process is gone.

    ``timeout``: seconds until the VM is killed (default 10). ``force``: do not ask the guest.
    Returns the pod. Raises PodNotFoundError, StateError, HypervisorError.
    """
    from vc_core import operations

    await run_async(operations.stop_pod(pod_id, timeout, force))
    return Pod(pod_id)


async def delete_pod(pod_id: str, *, force: bool = False) -> None:
    """Delete a pod that does not run. ``force``: whatever its state; what runs is killed.

    Raises PodNotFoundError, StateError, StorageError.
    """
    from vc_core import operations

    await run_async(operations.delete_pod(pod_id, force))


async def run_pod(config: PodConfig, *, timeout: float | None = None, progress: Progress | None = None) -> Pod:
    """Create a pod and start it; if the start fails the pod is deleted again.

    ``timeout`` and ``progress`` as for :func:`start_pod`. Returns the pod. Raises what :func:`create_pod` and
    :func:`start_pod` raise.
    """
    from vc_core import operations

    pod_id, _ = await run_async(operations.run_pod(config, timeout, None, progress))
    return Pod(pod_id)


async def list_pods() -> list[PodStatus]:
    """Return the status of every pod, sorted by id; talks to no guest. Raises StorageError."""
    return await run_async(queries.list_pods())


async def status_pod(pod_id: str) -> PodStatus:
    """Return a pod's status; talks to no guest. Raises PodNotFoundError, StorageError."""
    return await run_async(queries.status_pod(pod_id))


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
    process is killed in the guest. Cancelling the call kills it too.
    Returns the exit code (127 not found, 126 not executable, 128+n killed by signal n) and what was captured.
    Raises PodNotFoundError, ContainerNotFoundError, StateError, CommandError for a command that could not be set
    up, CommandTimeoutError, SupervisorLostError, HypervisorError when the VM ends meanwhile.
    """
    from vc_core import operations

    return await run_async(operations.enter_container(pod_id, container_id, cmd, stdin, stdout, stderr, timeout))
