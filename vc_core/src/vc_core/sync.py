"""The blocking API, made from ``vc_core.aio`` by ``./dev generate``."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from vc_core import client
from vc_core.client.interpreters import run_blocking
from vc_core.config.defaults import DEFAULT_AGENT, DEFAULT_GUEST, PIPE

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from vc_core.client.copying import HostFiles
    from vc_core.client.processes import Reader, Running, Writer
    from vc_core.client.starting import Starting
    from vc_core.client.stdio import Output, Stdin
    from vc_core.config.container import Cmd, ContainerConfig
    from vc_core.config.pod import PodConfig
    from vc_core.driver.guest import BuiltGuest, GuestImage, Progress
    from vc_core.host_report import HostReport
    from vc_core.results import (
        ContainerStatus,
        ContainerUsage,
        ExecResult,
        ImageStatus,
        LogLine,
        PodEvent,
        PodStatus,
        PodUsage,
        Repair,
        TemplateStatus,
    )


class Pod:
    """A pod by its ``id``; its operations as methods. As a context manager it is stopped and deleted at its end."""

    def __init__(self, pod_id: str) -> None:
        self.id = pod_id

    def __repr__(self) -> str:
        return f"Pod({self.id!r})"

    def _repr_html_(self) -> str:
        return client.queries.as_html(client.queries.status_pod(self.id), repr(self))

    def container(self, container_id: str) -> Container:
        """Return a container of the pod by its id, without a check that it exists."""
        return Container(self.id, container_id)

    def start(self, *, timeout: float | None = None, progress: Progress | None = None, strict: bool = False) -> None:
        """Start the pod; see :func:`start_pod`."""
        start_pod(self.id, timeout=timeout, progress=progress, strict=strict)

    def stop(self, *, timeout: float | None = None, force: bool = False) -> None:
        """Stop the pod; see :func:`stop_pod`."""
        stop_pod(self.id, timeout=timeout, force=force)

    def pause(self) -> None:
        """Pause the pod; see :func:`pause_pod`."""
        pause_pod(self.id)

    def resume(self) -> None:
        """Let the paused pod go on; see :func:`resume_pod`."""
        resume_pod(self.id)

    def restart(self, *, timeout: float | None = None, force: bool = False, progress: Progress | None = None) -> None:
        """Stop the pod if it runs, and start it; see :func:`restart_pod`."""
        restart_pod(self.id, timeout=timeout, force=force, progress=progress)

    def kill(self, signal: int | str = "SIGKILL") -> None:
        """Send a signal to the main processes of all containers; see :func:`kill_pod`."""
        kill_pod(self.id, signal)

    def wait(self) -> dict[str, int | None]:
        """Return the exit codes of the containers once none of them runs; see :func:`wait_pod`."""
        return wait_pod(self.id)

    def delete(self, *, force: bool = False) -> None:
        """Delete the pod; see :func:`delete_pod`."""
        delete_pod(self.id, force=force)

    def status(self) -> PodStatus:
        """Return the pod's status; see :func:`status_pod`."""
        return status_pod(self.id)

    def inspect(self) -> PodConfig:
        """Return the pod's configuration; see :func:`inspect_pod`."""
        return inspect_pod(self.id)

    def stats(self) -> PodUsage:
        """Return what the pod uses; see :func:`stats_pod`."""
        return stats_pod(self.id)

    def enter(
        self,
        cmd: Cmd,
        *,
        stdin: Stdin = None,
        stdout: Output = None,
        stderr: Output = None,
        timeout: float | None = None,
        max_output: int | None = None,
    ) -> ExecResult:
        """Run a command in the pod, outside of its containers; see :func:`enter_pod`."""
        return enter_pod(
            self.id, cmd, stdin=stdin, stdout=stdout, stderr=stderr, timeout=timeout, max_output=max_output
        )

    def popen(
        self,
        cmd: Cmd,
        *,
        stdin: Output = PIPE,
        stdout: Output = PIPE,
        stderr: Output = PIPE,
        terminal: tuple[int, int] | None = None,
    ) -> Process:
        """Start a command in the pod, outside of its containers and return while it runs; see :func:`open_process`."""
        return open_process(self.id, cmd, stdin=stdin, stdout=stdout, stderr=stderr, terminal=terminal)

    def console(self, *, follow: bool = False) -> Generator[bytes]:
        """Return what the pod's guest printed on its console, in parts; see :func:`console_pod`."""
        return console_pod(self.id, follow=follow)

    def create_container(self, config: ContainerConfig, *, progress: Progress | None = None) -> Container:
        """Add a container to the pod; see :func:`create_container`."""
        return create_container(self.id, config, progress=progress)

    def enter_container(
        self,
        container_id: str,
        cmd: Cmd,
        *,
        stdin: Stdin = None,
        stdout: Output = None,
        stderr: Output = None,
        timeout: float | None = None,
        max_output: int | None = None,
    ) -> ExecResult:
        """Run a command in a running container; see :func:`enter_container`."""
        return enter_container(
            self.id,
            container_id,
            cmd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            timeout=timeout,
            max_output=max_output,
        )

    def copy_in(
        self,
        source: HostFiles,
        path: str,
        *,
        owners: bool = False,
        follow: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Copy files into the pod, outside of its containers; see :func:`copy_in`."""
        copy_in(self.id, source, path, owners=owners, follow=follow, timeout=timeout)

    def copy_out(
        self,
        path: str,
        destination: HostFiles,
        *,
        owners: bool = False,
        follow: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Copy files out of the pod, outside of its containers; see :func:`copy_out`."""
        copy_out(self.id, path, destination, owners=owners, follow=follow, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        run_blocking(client.pods.end_pod(self.id))


class Container:
    """A container of the pod ``pod_id`` by its ``id``; its operations as methods."""

    def __init__(self, pod_id: str, container_id: str) -> None:
        self.pod_id = pod_id
        self.id = container_id

    def __repr__(self) -> str:
        return f"Container({self.pod_id!r}, {self.id!r})"

    def _repr_html_(self) -> str:
        return client.queries.as_html(client.queries.status_container(self.pod_id, self.id), repr(self))

    def start(self) -> None:
        """Start the container; see :func:`start_container`."""
        start_container(self.pod_id, self.id)

    def open(
        self,
        *,
        stdin: Output = PIPE,
        stdout: Output = PIPE,
        stderr: Output = PIPE,
        terminal: tuple[int, int] | None = None,
    ) -> Process:
        """Start the container with streams of its main process; see :func:`open_container`."""
        return open_container(self.pod_id, self.id, stdin=stdin, stdout=stdout, stderr=stderr, terminal=terminal)

    def stop(self, *, timeout: float | None = None, force: bool = False) -> None:
        """Stop the container; see :func:`stop_container`."""
        stop_container(self.pod_id, self.id, timeout=timeout, force=force)

    def restart(self, *, timeout: float | None = None, force: bool = False) -> None:
        """Stop the container if it runs, and start it; see :func:`restart_container`."""
        restart_container(self.pod_id, self.id, timeout=timeout, force=force)

    def kill(self, signal: int | str = "SIGKILL") -> None:
        """Send a signal to the container's main process; see :func:`kill_container`."""
        kill_container(self.pod_id, self.id, signal)

    def pause(self) -> None:
        """Suspend all processes of the container; see :func:`pause_container`."""
        pause_container(self.pod_id, self.id)

    def resume(self) -> None:
        """Let the processes of the container go on; see :func:`resume_container`."""
        resume_container(self.pod_id, self.id)

    def update(self, *, memory: int | None = None, pids: int | None = None, cpus: float | None = None) -> None:
        """Change the limits of the container; see :func:`update_container`."""
        update_container(self.pod_id, self.id, memory=memory, pids=pids, cpus=cpus)

    def delete(self, *, force: bool = False) -> None:
        """Delete the container; see :func:`delete_container`."""
        delete_container(self.pod_id, self.id, force=force)

    def status(self) -> ContainerStatus:
        """Return the container's status; see :func:`status_container`."""
        return status_container(self.pod_id, self.id)

    def logs(
        self,
        *,
        follow: bool = False,
        since: float | None = None,
        tail: int | None = None,
        stdout: bool = True,
        stderr: bool = True,
    ) -> Generator[LogLine]:
        """Return the lines that the container wrote, one by one; see :func:`logs_container`."""
        return logs_container(self.pod_id, self.id, follow=follow, since=since, tail=tail, stdout=stdout, stderr=stderr)

    def stats(self) -> ContainerUsage:
        """Return what the container uses; see :func:`stats_container`."""
        return stats_container(self.pod_id, self.id)

    def wait(self) -> int:
        """Return the container's exit code once it ended; see :func:`wait_container`."""
        return wait_container(self.pod_id, self.id)

    def enter(
        self,
        cmd: Cmd,
        *,
        stdin: Stdin = None,
        stdout: Output = None,
        stderr: Output = None,
        timeout: float | None = None,
        max_output: int | None = None,
    ) -> ExecResult:
        """Run a command in the container; see :func:`enter_container`."""
        return enter_container(
            self.pod_id, self.id, cmd, stdin=stdin, stdout=stdout, stderr=stderr, timeout=timeout, max_output=max_output
        )

    def attach(self, *, ends_input: bool = False) -> Process:
        """Attach to the container's main process, and return it; see :func:`attach_container`."""
        return attach_container(self.pod_id, self.id, ends_input=ends_input)

    def copy_in(
        self,
        source: HostFiles,
        path: str,
        *,
        owners: bool = False,
        follow: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Copy files into the container; see :func:`copy_in`."""
        copy_in(self.pod_id, source, path, container_id=self.id, owners=owners, follow=follow, timeout=timeout)

    def copy_out(
        self,
        path: str,
        destination: HostFiles,
        *,
        owners: bool = False,
        follow: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Copy files out of the container; see :func:`copy_out`."""
        copy_out(self.pod_id, path, destination, container_id=self.id, owners=owners, follow=follow, timeout=timeout)

    def popen(
        self,
        cmd: Cmd,
        *,
        stdin: Output = PIPE,
        stdout: Output = PIPE,
        stderr: Output = PIPE,
        terminal: tuple[int, int] | None = None,
    ) -> Process:
        """Start a command in the container and return while it runs; see :func:`open_process`."""
        return open_process(
            self.pod_id, cmd, container_id=self.id, stdin=stdin, stdout=stdout, stderr=stderr, terminal=terminal
        )


class ProcessReader:
    """What a process writes, as a stream of bytes; iterating gives lines. Made by :func:`open_process`."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def read(self, size: int = -1) -> bytes:
        """Return what is there, ``size`` bytes at most, and wait for some; all until the end for -1; b"" at the end."""
        return run_blocking(self._reader.read(size))

    def readline(self, size: int = -1) -> bytes:
        """Return the next line with its end, ``size`` bytes at most unless that is -1; b"" at the end."""
        return run_blocking(self._reader.readline(size))

    def close(self) -> None:
        """Read no more: a process that goes on to write gets SIGPIPE. Idempotent."""
        self._reader.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        line = self.readline()
        if not line:
            raise StopIteration
        return line


class ProcessWriter:
    """What a process reads, as a stream of bytes. Made by :func:`open_process`."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def write(self, data: bytes) -> None:
        """Write all of it, once there is room. Raises BrokenPipeError when the process reads no more."""
        run_blocking(self._writer.write(data))

    def close(self) -> None:
        """End the process' input. Idempotent."""
        self._writer.close()


class Process:
    """A process that runs in a guest, as a context manager closed at its end.

    A command is made by :func:`open_process`, the main process of a container by :func:`open_container`.

    ``stdin``, ``stdout`` and ``stderr`` are streams where PIPE was given, else None. Read stdout and stderr in two
    threads or tasks where both may be long: a command waits while one of them is full.
    """

    def __init__(self, running: Running) -> None:
        self._running = running
        self.stdin: ProcessWriter | None = ProcessWriter(running.stdin) if running.stdin else None
        self.stdout: ProcessReader | None = ProcessReader(running.stdout) if running.stdout else None
        self.stderr: ProcessReader | None = ProcessReader(running.stderr) if running.stderr else None

    def __repr__(self) -> str:
        return f"<Process {self._running}>"

    def poll(self) -> int | None:
        """Return the exit code of a process that has ended, else None. Raises as :meth:`wait`."""
        return self._running.poll()

    def wait(self, *, timeout: float | None = None) -> int:
        """Return the exit code once the process has ended; any number of callers may wait.

        ``timeout``: seconds. Raises CommandTimeoutError when they are over, and the process goes on;
        SupervisorLostError, HypervisorError when the VM ends, OutputError, ValueError for a closed one.
        """
        return run_blocking(self._running.wait(timeout))

    def kill(self, signal: int | str = "SIGKILL") -> None:
        """Send a signal, unless the process has ended; SIGKILL ends all of its session. Raises ConfigError."""
        run_blocking(self._running.kill(signal))

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of the process' terminal, unless it has ended."""
        run_blocking(self._running.resize(rows, columns))

    def detach(self) -> None:
        """Leave the process to itself, and close the streams: it runs on when this program ends.

        Called for a command that runs as long as its container, such as a debugger's server. Its output is lost from
        then on, its input gets no end, and every method but :meth:`close` raises ValueError afterwards. Nothing is done
        for a process that has ended.
        Raises SupervisorLostError, HypervisorError when the VM ends, ValueError for a closed process.
        """
        run_blocking(self._running.detach())

    def hand_over(self) -> int:
        """Return the connection to the process as a descriptor for a program of the caller, and let go of the process.

        Called when another program is to wait for the process, such as a small one that runs as long. What is sent and
        received on the descriptor is in "Connections to processes" of the reference. Close it where it is not needed.
        The caller's streams are closed here, and every method but :meth:`close` raises ValueError.
        Raises StateError for a process whose end was seen before, whose exit code :meth:`poll` returns; ValueError for
        one that was closed.
        """
        return run_blocking(self._running.hand_over())

    def close(self) -> None:
        """Close the streams, and kill a command with its session if it has not ended; not a container. Idempotent."""
        run_blocking(self._running.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class PodPool:
    """Pods that are started and wait, so that :meth:`take` returns one at once; each taken pod is replaced behind.

    ``PodPool(config, size=4, *, max_age=None, name="")`` begins to start pods, in threads of its own. ``config``: of
    each pod, without an id. ``size``: number of pods that wait. ``max_age``: seconds after which a waiting pod is
    replaced; None for never. ``name``: what ``list_pods`` shows with its pods; empty for a random one. Raises
    ConfigError.

    As a context manager it is closed at its end. A program that ends without closing it closes it; the pods of one that
    is killed are deleted when the next pool is made.
    A fork of the program has no part in the pool: there, :meth:`take` raises StateError and :meth:`close` does nothing.
    """

    def __init__(self, config: PodConfig, size: int = 4, *, max_age: float | None = None, name: str = "") -> None:
        """Start to fill the pool. Raises ConfigError."""
        from vc_core.client.pool import Keeper

        self._keeper = Keeper(config, size, max_age, name)
        self.name: str = self._keeper.name

    def __repr__(self) -> str:
        return f"PodPool({self.name!r})"

    def take(self, *, timeout: float | None = None) -> Pod:
        """Return a running pod, which is then the caller's to delete; wait for one if none is ready.

        ``timeout``: seconds; None for any time. A pod that ended while it waited is never returned.
        Raises BusyError when the time is over, StateError for a closed pool, and what :func:`run_pod` raises when no
        pod waits because one could not be started; the next call tries again.
        """
        return Pod(run_blocking(self._keeper.take(timeout)))

    def close(self) -> None:
        """Delete all pods that wait or are being started, and return when they are gone; taken pods run on."""
        run_blocking(self._keeper.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class PodPreparation:
    """Begins to start a pod whose configuration is not there yet: what it needs of this host is loaded meanwhile.

    ``with PodPreparation(pod_id="") as prepared`` begins; :meth:`run` or :meth:`open` starts the pod; the end of the
    block gives up what was begun, if it was not used. ``pod_id``: that of the pod; empty for a new one. Called by
    programs that have to read or ask for a part of the configuration, as ``vc-runtime``. The VM will be in the network
    namespace and the control groups of the process that begins. Nothing is on disk before.

    Only a VM that starts from a template starts so fast that this counts: without templates nothing is begun.
    """

    def __init__(self, pod_id: str = "") -> None:
        """Begin nothing yet."""
        self._pod_id = pod_id
        self._starting: Starting | None = None

    def run(self, config: PodConfig, *, timeout: float | None = None, progress: Progress | None = None) -> Pod:
        """Create the pod and start it, as :func:`run_pod` does, and return it; raises what that raises.

        ``config``: without an id, or with that of the pod. Called once, in the block.
        """
        pod_id, _ = run_blocking(client.pods.run_pod(config, timeout, None, progress, supervisor=self._starting))
        return Pod(pod_id)

    def open(
        self,
        config: PodConfig,
        *,
        stdin: Output = PIPE,
        stdout: Output = PIPE,
        stderr: Output = PIPE,
        terminal: tuple[int, int] | None = None,
        discard: bool = False,
    ) -> Process:
        """Create a pod with one container and start both, with streams of the container's main process.

        ``stdin``, ``stdout``, ``stderr`` and ``terminal`` as for :func:`open_process`. ``discard``: when the container
        has ended, its pod is stopped and deleted behind the process' exit code, unless another container runs; not if
        the process was closed, or its supervisor was lost, before. Called in the place of :meth:`run`.
        Returns the container's main process, as :func:`open_container` does. Raises what :func:`run_pod` raises, and
        ConfigError for a pod that has not one container.
        """
        assert self._starting is not None
        opened = client.opening.run_pod(config, self._starting, stdin, stdout, stderr, terminal, discard)
        return Process(run_blocking(opened))

    def __enter__(self) -> Self:
        self._starting = run_blocking(client.preparation.begin(self._pod_id))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._starting is not None:
            run_blocking(client.preparation.give_up(self._starting))


def create_pod(config: PodConfig, *, progress: Progress | None = None) -> Pod:
    """Create a pod and its containers; nothing is started.

    An image that is not on this host is pulled first, with ``progress`` as for :func:`start_pod`.
    Returns the pod. Raises ConfigError for a pod that could never start, PodExistsError for an id that is taken,
    ImageError for an image that cannot be pulled, DriverError, PrivilegeError where the hypervisor needs root,
    StorageError; nothing is left behind then.
    """
    return Pod(run_blocking(client.pods.create_pod(config, progress)))


def start_pod(
    pod_id: str, *, timeout: float | None = None, progress: Progress | None = None, strict: bool = False
) -> Pod:
    """Start a pod that is ready, stopped or failed, and all of its containers.

    ``timeout``: seconds that the guest has to get ready (default 60). ``progress``: called with a phrase and how much
    of it is done (0 to 1, or None) while the guest is built on first use and while the VM starts. ``strict``: from now
    on the pod starts only in a full jail, as with ``PodConfig.strict``; VMStartError names what is missing.
    Returns the pod. Raises ConfigError, PodNotFoundError, StateError, and the error that kept it from starting, such as
    VMStartError, VMTimeoutError, AgentConnectError, AgentTimeoutError, CommandError or GuestError; the pod is then what
    it was.
    """
    run_blocking(client.pods.start_pod(pod_id, timeout, None, progress, None, strict))
    return Pod(pod_id)


def stop_pod(pod_id: str, *, timeout: float | None = None, force: bool = False) -> Pod:
    """Stop a running or failed pod: its containers end, the guest powers off, the VM's process ends.

    ``timeout``: seconds until the VM is killed (default 10; 4 with ``force``). ``force``: do not ask the guest.
    Returns the pod. Raises ConfigError, PodNotFoundError, StateError, HypervisorError.
    """
    run_blocking(client.pods.stop_pod(pod_id, timeout, force))
    return Pod(pod_id)


def pause_pod(pod_id: str) -> Pod:
    """Stop the CPUs of a running pod: all that it does stands still, also its clock, until :func:`resume_pod`.

    Its memory stays in use, and its exit codes and output are kept. Meanwhile it can be stopped and deleted, and
    containers can be waited for; what needs the guest raises StateError. A command that runs already goes on
    afterwards; its timeout passes meanwhile. A supervisor that is lost changes nothing.
    Returns the pod. Raises ConfigError, PodNotFoundError, StateError, NotSupportedError from a hypervisor that cannot,
    HypervisorError.
    """
    run_blocking(client.pods.pause_pod(pod_id))
    return Pod(pod_id)


def resume_pod(pod_id: str) -> Pod:
    """Let a paused pod go on where it stood; its clock is behind by the time that it was paused.

    Returns the pod. Raises ConfigError, PodNotFoundError, StateError, HypervisorError, AgentError.
    """
    run_blocking(client.pods.resume_pod(pod_id))
    return Pod(pod_id)


def restart_pod(
    pod_id: str, *, timeout: float | None = None, force: bool = False, progress: Progress | None = None
) -> Pod:
    """Stop a pod if it runs, and start it: its containers get fresh writable layers.

    ``timeout`` and ``force`` as for :func:`stop_pod`, ``progress`` as for :func:`start_pod`. A pod that is deleted
    between the two is not started. Returns the pod. Raises what those two raise.
    """
    run_blocking(client.lifecycle.restart_pod(pod_id, timeout, force, progress))
    return Pod(pod_id)


def kill_pod(pod_id: str, signal: int | str = "SIGKILL") -> None:
    """Send a signal to the main processes of all running containers of a pod, and do not wait for its effect.

    ``signal``: a number, or a name such as "SIGHUP" or "HUP". Raises PodNotFoundError, StateError, ConfigError for a
    signal that does not exist.
    """
    run_blocking(client.lifecycle.kill_pod(pod_id, signal))


def wait_pod(pod_id: str) -> dict[str, int | None]:
    """Wait until no container of a pod runs, and return their exit codes; any number of callers may wait.

    The code is None for a container that was not started, or that ended with its pod. A pod without running containers
    is no error. Raises ConfigError, PodNotFoundError, StateError for a pod that was never started.
    """
    return run_blocking(client.lifecycle.wait_pod(pod_id))


def prune_pods(
    *, labels: Mapping[str, str | None] | None = None, until: float | None = None, dry_run: bool = False
) -> list[PodStatus]:
    """Delete pods that are stopped: all, or those that have all of these ``labels``, where None stands for any value.

    Pods that were created and not yet started stay, and so does what is started meanwhile, by whomever. ``until``:
    seconds since the epoch; what stopped later stays. ``dry_run``: delete nothing.
    Returns the pods that were deleted, or would be. Raises ConfigError, and StorageError when all others are deleted.
    """
    return run_blocking(client.lifecycle.prune_pods(labels, until, dry_run))


def delete_pod(pod_id: str, *, force: bool = False) -> None:
    """Delete a pod that does not run. ``force``: in any state; a pod that runs is stopped or killed first.

    Raises ConfigError, PodNotFoundError, StateError, StorageError, SupervisorError for a process that cannot be killed.
    """
    run_blocking(client.removing.delete_pod(pod_id, force))


def run_pod(config: PodConfig, *, timeout: float | None = None, progress: Progress | None = None) -> Pod:
    """Create a pod and start it; if the start fails the pod is deleted again.

    ``timeout`` and ``progress`` as for :func:`start_pod`; the latter also while images are pulled. Returns the pod.
    Raises what :func:`create_pod` and :func:`start_pod` raise.
    """
    pod_id, _ = run_blocking(client.pods.run_pod(config, timeout, None, progress))
    return Pod(pod_id)


def find_pod(text: str) -> Pod:
    """Return the pod that a person named: by its id, or by the beginning of an id that was not chosen (a UUID).

    An id that ``PodConfig`` names is a name, and counts as a whole only; an id that is equal to ``text`` wins.
    Raises PodNotFoundError also where several ids begin so, ConfigError for what cannot be an id, StorageError.
    """
    return Pod(run_blocking(client.queries.find_pod(text)))


def find_container(text: str) -> Container:
    """Return the container that a person named: ``POD/CONTAINER``, or ``POD`` if that has one container.

    The pod is named as for :func:`find_pod`, the container by its id.
    Raises PodNotFoundError, ContainerNotFoundError, ConfigError, StorageError.
    """
    return Container(*run_blocking(client.queries.find_container(text)))


def list_pods(*, labels: Mapping[str, str | None] | None = None) -> list[PodStatus]:
    """Return the status of every pod, sorted by id, from their records.

    ``labels``: only pods that have all of these; a value of None stands for any.
    Raises StorageError, ConfigError for a label that is not valid.
    """
    return run_blocking(client.queries.list_pods(labels))


def status_pod(pod_id: str) -> PodStatus:
    """Return a pod's status, from its record. Raises ConfigError, PodNotFoundError, StorageError."""
    return run_blocking(client.queries.status_pod(pod_id))


def inspect_pod(pod_id: str) -> PodConfig:
    """Return the configuration of a pod, with the containers that it has now.

    :func:`create_pod` makes the same pod of it, once this one is deleted or with another id; ``dump_pod_config`` makes
    a pod file of it. Raises ConfigError, PodNotFoundError, StorageError.
    """
    return run_blocking(client.queries.inspect_pod(pod_id))


def console_pod(pod_id: str, *, follow: bool = False) -> Generator[bytes]:
    """Yield what a pod's guest printed on its console since the pod was started, in parts, as far as it is logged.

    ``follow``: wait for more until the VM ends. The first step raises ConfigError, PodNotFoundError, StorageError,
    NotSupportedError for a pod whose console is not logged.
    """
    console = client.console.Console(pod_id, follow=follow)
    try:
        while data := run_blocking(console.following()):
            yield data
    finally:
        run_blocking(console.close())


def enter_pod(
    pod_id: str,
    cmd: Cmd,
    *,
    stdin: Stdin = None,
    stdout: Output = None,
    stderr: Output = None,
    timeout: float | None = None,
    max_output: int | None = None,
) -> ExecResult:
    """Run a command in a running pod, outside of its containers, and wait for its end.

    It runs in the root file system ``PodConfig.root_fs`` where one is given, else in the guest's own. Arguments, result
    and errors are those of :func:`enter_container`, and NotSupportedError from an agent that cannot do this.
    """
    return run_blocking(client.containers.enter_pod(pod_id, cmd, stdin, stdout, stderr, timeout, max_output=max_output))


def create_container(pod_id: str, config: ContainerConfig, *, progress: Progress | None = None) -> Container:
    """Add a container to a pod, whether that runs or not; the container is not started.

    An image that is not on this host is pulled first, with ``progress`` as for :func:`start_pod`.
    Returns the container. Raises PodNotFoundError, ContainerExistsError, ConfigError, ImageError, StorageError.
    """
    return Container(pod_id, run_blocking(client.containers.create_container(pod_id, config, progress)))


def start_container(pod_id: str, container_id: str) -> Container:
    """Start a container of a running pod, for the first time or again, with a fresh writable layer.

    Returns the container. Raises ConfigError, PodNotFoundError, ContainerNotFoundError, StateError, CommandError.
    """
    run_blocking(client.containers.start_container(pod_id, container_id))
    return Container(pod_id, container_id)


def open_container(
    pod_id: str,
    container_id: str,
    *,
    stdin: Output = PIPE,
    stdout: Output = PIPE,
    stderr: Output = PIPE,
    terminal: tuple[int, int] | None = None,
) -> Process:
    """Start a container of a running pod as :func:`start_container` does, with streams of its main process.

    Called where a program feeds the container or reads what it writes, which is logged too. ``stdin``, ``stdout``,
    ``stderr`` and ``terminal`` as for :func:`open_process`.
    Returns its main process while it runs. Closing that closes the streams, and the container goes on.
    Raises PodNotFoundError, ContainerNotFoundError, StateError, ConfigError, CommandError, SupervisorLostError.
    """
    operation = client.processes.open_container(pod_id, container_id, stdin, stdout, stderr, terminal)
    return Process(run_blocking(operation))


def stop_container(pod_id: str, container_id: str, *, timeout: float | None = None, force: bool = False) -> Container:
    """Stop a running container: its stop signal to its main process, SIGKILL after ``timeout`` seconds (default 10).

    ``force``: kill at once. Returns the container. Raises ConfigError, PodNotFoundError, ContainerNotFoundError,
    StateError.
    """
    run_blocking(client.containers.stop_container(pod_id, container_id, timeout, force))
    return Container(pod_id, container_id)


def restart_container(
    pod_id: str, container_id: str, *, timeout: float | None = None, force: bool = False
) -> Container:
    """Stop a container of a running pod if it runs, and start it, with a fresh writable layer.

    ``timeout`` and ``force`` as for :func:`stop_container`. Returns the container. Raises ConfigError,
    PodNotFoundError, ContainerNotFoundError, StateError, CommandError.
    """
    run_blocking(client.lifecycle.restart_container(pod_id, container_id, timeout, force))
    return Container(pod_id, container_id)


def kill_container(pod_id: str, container_id: str, signal: int | str = "SIGKILL") -> None:
    """Send a signal to the main process of a running container, and do not wait for its effect.

    ``signal``: a number, or a name such as "SIGHUP" or "HUP". Raises PodNotFoundError, ContainerNotFoundError,
    StateError, ConfigError for a signal that does not exist.
    """
    run_blocking(client.containers.kill_container(pod_id, container_id, signal))


def pause_container(pod_id: str, container_id: str) -> None:
    """Suspend all processes of a running container, until :func:`resume_container`; nothing can enter it meanwhile.

    Raises ConfigError, PodNotFoundError, ContainerNotFoundError, StateError, NotSupportedError from an agent that
    cannot.
    """
    run_blocking(client.containers.pause_container(pod_id, container_id))


def resume_container(pod_id: str, container_id: str) -> None:
    """Let the processes of a paused container go on.

    Raises ConfigError, PodNotFoundError, ContainerNotFoundError, StateError.
    """
    run_blocking(client.containers.resume_container(pod_id, container_id))


def update_container(
    pod_id: str,
    container_id: str,
    *,
    memory: int | None = None,
    pids: int | None = None,
    cpus: float | None = None,
) -> None:
    """Change the limits of a container, at once if it runs, and for its next starts.

    ``memory``: MiB; ``pids``: processes and threads; ``cpus``: processors. None: as it is; 0: no limit. If the
    container uses more memory than that, the kernel kills processes of it.
    Raises PodNotFoundError, ContainerNotFoundError, ConfigError, NotSupportedError from an agent that cannot.
    """
    run_blocking(client.containers.update_container(pod_id, container_id, memory, pids, cpus))


def delete_container(pod_id: str, container_id: str, *, force: bool = False) -> None:
    """Delete a container that does not run, with its log. ``force``: kill it first.

    Raises ConfigError, PodNotFoundError, ContainerNotFoundError, StateError, StorageError.
    """
    run_blocking(client.containers.delete_container(pod_id, container_id, force))


def status_container(pod_id: str, container_id: str) -> ContainerStatus:
    """Return a container's status, from its pod's record.

    Raises ConfigError, PodNotFoundError, ContainerNotFoundError, StorageError.
    """
    return run_blocking(client.queries.status_container(pod_id, container_id))


def stats_container(pod_id: str, container_id: str) -> ContainerUsage:
    """Return the resources that the processes of a running container used so far, and use now.

    Raises ConfigError, PodNotFoundError, ContainerNotFoundError, StateError, NotSupportedError from an agent that
    cannot.
    """
    return run_blocking(client.containers.stats_container(pod_id, container_id))


def logs_container(
    pod_id: str,
    container_id: str,
    *,
    follow: bool = False,
    since: float | None = None,
    tail: int | None = None,
    stdout: bool = True,
    stderr: bool = True,
) -> Generator[LogLine]:
    """Yield the lines that a container wrote, also in former runs, as far as its log still holds them.

    ``follow``: after those that are there, wait for more until the container ends. ``since``: seconds since the epoch;
    older lines are left out. ``tail``: how many of the last lines that are there; None for all. ``stdout`` and
    ``stderr``: whether to yield lines of these.
    The first step raises PodNotFoundError, ContainerNotFoundError, ConfigError; each may raise StorageError and, with
    ``follow``, SupervisorError.
    """
    logs = client.logs.ContainerLogs(
        pod_id, container_id, follow=follow, since=since, tail=tail, stdout=stdout, stderr=stderr
    )
    try:
        while lines := run_blocking(logs.following()):
            yield from lines
    finally:
        run_blocking(logs.close())


def metrics() -> str:
    """Return all pods as metrics, in the text format of Prometheus. What cannot be measured now is left out.

    Raises StorageError.
    """
    return run_blocking(client.metrics.metrics())


def pod_events(*pod_ids: str, follow: bool = False, since: float | None = None) -> Generator[PodEvent]:
    """Yield what became of pods and their containers, oldest first: of all, or of those that are named.

    Events of deleted pods are kept too, some ten thousand in all. ``follow``: after those that are there, wait for
    more, without an end. ``since``: seconds since the epoch; older ones are left out.
    The first step raises ConfigError, each may raise StorageError.
    """
    events = client.events.Events(pod_ids, follow=follow, since=since)
    try:
        while found := run_blocking(events.following()):
            yield from found
    finally:
        run_blocking(events.close())


def stats_pod(pod_id: str) -> PodUsage:
    """Return what a running pod uses: its VM on this host, and each container in the guest.

    Raises ConfigError, PodNotFoundError, StateError, AgentError, SupervisorError.
    """
    return run_blocking(client.stats.stats_pod(pod_id))


def watch_stats(*pod_ids: str, interval: float = 1.0) -> Generator[list[PodUsage]]:
    """Yield what pods use, every ``interval`` seconds, without an end: those that are named, else all that run.

    Processor load is the difference of ``cpu_seconds`` between two steps, divided by that of ``time``. The first step
    raises ConfigError, and PodNotFoundError or StateError for a named pod; later, a pod that does not run is left out.
    """
    sampler = client.stats.Sampler(pod_ids, interval)
    while True:
        yield run_blocking(sampler.take())


def wait_container(pod_id: str, container_id: str) -> int:
    """Wait until a container ended and return its exit code; any number of callers may wait.

    A container that ended before is no error. Raises ConfigError, PodNotFoundError, ContainerNotFoundError, StateError
    for one that never ran or that ended without an exit code, because its pod was stopped or its VM ended.
    """
    return run_blocking(client.containers.wait_container(pod_id, container_id))


def enter_container(
    pod_id: str,
    container_id: str,
    cmd: Cmd,
    *,
    stdin: Stdin = None,
    stdout: Output = None,
    stderr: Output = None,
    timeout: float | None = None,
    max_output: int | None = None,
) -> ExecResult:
    """Run a command in a running container and wait for its end.

    ``stdin``: bytes, an open file or a descriptor; None and DEVNULL give no input. ``stdout``, ``stderr``: an open file
    or a descriptor to write to; None and PIPE capture, DEVNULL discards. ``timeout``: seconds after which the
    command and its session are killed in the guest. ``max_output``: bytes of each captured output that are kept, None
    for all; the rest is discarded and ``ExecResult.truncated`` set.
    Cancelling the call, or KeyboardInterrupt in a blocking one, kills the command too.
    Returns the exit code (127 not found, 126 not executable, 128+n killed by signal n) and what was captured.
    Raises ConfigError, PodNotFoundError, ContainerNotFoundError, StateError, CommandError for a command that could not
    be set up, CommandTimeoutError, OutputError, SupervisorLostError, HypervisorError when the VM ends meanwhile.
    """
    return run_blocking(
        client.containers.enter_container(
            pod_id, container_id, cmd, stdin, stdout, stderr, timeout, max_output=max_output
        )
    )


def copy_in(
    pod_id: str,
    source: HostFiles,
    path: str,
    *,
    container_id: str = "",
    owners: bool = False,
    follow: bool = False,
    timeout: float | None = None,
) -> None:
    """Copy a file or directory of this host into a running container, or for no ``container_id`` into the pod itself.

    ``source``: a path, or a file object, open for reading bytes, with a tar archive, compressed or not. ``path``: a
    path in the container. If it is a directory, a file or directory is put into it, else becomes it; what a tar archive
    holds, and the contents of a directory for a source such as "DIR/.", go into that directory, which is made if it is
    missing. ``owners``: owners keep their numbers, and programs their set-user-id bits; else all is root's.
    ``follow``: if ``source`` is a link, copy what it leads to, and not the link. ``timeout``: seconds after which the
    copy is ended.
    No program in the container is needed. Nothing is written outside of ``path``, whatever the archive holds and
    whichever links are below it. What was copied before a failure stays.
    Raises PodNotFoundError, ContainerNotFoundError, StateError, ConfigError, NotSupportedError from an agent that
    cannot, CopyError, CommandTimeoutError, SupervisorLostError.
    """
    run_blocking(client.copying.copy_in(pod_id, container_id, source, path, owners, follow, timeout))


def copy_out(
    pod_id: str,
    path: str,
    destination: HostFiles,
    *,
    container_id: str = "",
    owners: bool = False,
    follow: bool = False,
    timeout: float | None = None,
) -> None:
    """Copy a file or directory of a running container, or for no ``container_id`` of the pod itself, to this host.

    ``destination``: a path, which works as for :func:`copy_in`, or a file object, open for writing bytes, that gets a
    tar archive. ``owners``: keep the numbers of owners, which only root can; else all is this user's. ``follow``: if
    ``path`` is a link, copy what it leads to, and not the link. ``timeout``: seconds after which the copy is ended.
    A guest may be hostile: nothing is written outside of ``destination``, no link there is followed, and no file
    becomes set-user-id. Links that lead out of the copy, devices and pipes are left out; CopyError names them when all
    else was copied. How much a guest sends has no bound but ``timeout``.
    Raises what :func:`copy_in` raises.
    """
    run_blocking(client.copying.copy_out(pod_id, container_id, path, destination, owners, follow, timeout))


def attach_container(pod_id: str, container_id: str, *, ends_input: bool = False) -> Process:
    """Attach to the main process of a running container, and return it as an object.

    ``stdout`` and ``stderr`` are what it prints from now on, ``stdin`` reaches it if it was started with open input
    (``interactive``), or if the caller who gave it input was lost with a supervisor; else it is ignored.
    ``ends_input``: to close ``stdin`` ends the process' input, too. Any number of callers may attach. To close the
    object ends the attachment and not the process; a process writes on although a caller does not read. ``wait``
    returns the container's exit code. Raises ConfigError, PodNotFoundError, ContainerNotFoundError, StateError,
    StorageError, SupervisorLostError.
    """
    return Process(run_blocking(client.attaching.open_attachment(pod_id, container_id, ends_input)))


def open_process(
    pod_id: str,
    cmd: Cmd,
    *,
    container_id: str = "",
    stdin: Output = PIPE,
    stdout: Output = PIPE,
    stderr: Output = PIPE,
    terminal: tuple[int, int] | None = None,
) -> Process:
    """Start a command in a running container, or for no ``container_id`` in the pod itself, and return while it runs.

    ``stdin``, ``stdout``, ``stderr``: PIPE for a stream of the process, None or DEVNULL for none, or a descriptor or
    open file that is a pipe, a socket, a regular file or a terminal. ``terminal``: rows and columns of a terminal that
    it runs on; all output is in ``stdout`` then. Any number of processes may run at once. One that is garbage is
    killed.
    Raises PodNotFoundError, ContainerNotFoundError, StateError, ConfigError, CommandError, SupervisorLostError.
    """
    operation = client.processes.open_process(pod_id, container_id, cmd, stdin, stdout, stderr, terminal)
    return Process(run_blocking(operation))


def build_guest(
    *,
    agent_type: str = DEFAULT_AGENT,
    agent_config: Mapping[str, object] | None = None,
    guest: str = DEFAULT_GUEST,
    guest_options: Mapping[str, object] | None = None,
    progress: Progress | None = None,
) -> GuestImage:
    """Build the guest that pods of an agent boot, with the newest kernel of the distribution.

    Pods build it at their first start by themselves; this renews it. The arguments are those fields of ``PodConfig``
    and ``HypervisorConfig`` that choose a guest; ``progress`` as for :func:`start_pod`.
    Returns the image. Raises ConfigError for an agent that brings no guest, DriverError, GuestError.
    """
    operation = client.guests.build_guest(agent_type, agent_config or {}, guest, guest_options or {}, progress)
    return run_blocking(operation)


def list_guests(*, guest: str = DEFAULT_GUEST) -> list[BuiltGuest]:
    """Return the guests that a driver built, newest last.

    ``guest``: the driver. Raises DriverError, NotSupportedError from a driver that cannot list them.
    """
    return run_blocking(client.guests.list_guests(guest))


def delete_guest(key: str, *, guest: str = DEFAULT_GUEST) -> None:
    """Delete a built guest; pods that boot it again build it again, and running pods are not touched.

    ``key``: as :func:`list_guests` returns it. ``guest``: the driver that built it. Raises GuestError for a guest that
    does not exist, DriverError, NotSupportedError from a driver that cannot delete them.
    """
    run_blocking(client.guests.delete_guest(key, guest))


def check_host(*, hypervisor_type: str = "", agent_type: str = "", guest: str = "") -> HostReport:
    """Return what this host offers to pods: whether they can run, what confines their VMs, and how to mend what is not.

    The arguments are those fields of ``PodConfig`` and ``HypervisorConfig`` that choose drivers; empty ones as there.
    Parts are tried where that is possible: a kernel is booted with hardware virtualization, and the hypervisor's
    process is put into its jail. That takes some seconds; nothing is changed. A driver that fails is a line of the
    report.
    Returns the report. Raises StorageError for roots whose names are not valid.
    """
    return run_blocking(client.hosts.check_host(hypervisor_type, agent_type, guest))


def check_writable_root(root_fs: str) -> None:
    """Refuse a directory that no container of this user can have as ``root_fs`` with ``writable_root_fs``.

    Called by programs that choose between that and an overlay, as ``vc-runtime`` does. ``root_fs``: path of the root
    itself. Nothing is changed; for root, the kernel is asked to translate the owners there, which takes some
    milliseconds. A start checks the directory again.
    Returns nothing. Raises ConfigError with the reason, such as other users of the host that can reach it.
    """
    run_blocking(client.hosts.check_writable_root(root_fs))


def repair(*, apply: bool = False) -> list[Repair]:
    """Return where the records, processes and files of pods disagree, and mend that with ``apply``.

    Called after a crash of the host or of its supervisors, to look at all pods at once; other operations mend what
    concerns their own pod. What another process is at work on is left out. What cannot be mended says why.
    Raises StorageError for roots that cannot be read.
    """
    return run_blocking(client.repair.repair(apply))


def create_template(config: PodConfig, *, progress: Progress | None = None) -> TemplateStatus:
    """Make the template from which pods with a configuration start, in the place of one that is there.

    The first pod of a kind has it made by itself, after its start; this makes it before. Of ``config`` only what is not
    a pod's own counts, such as the size of the VM, its drivers and its guest. ``progress`` as for :func:`start_pod`.
    Raises NotSupportedError for pods that cannot be started from a template, BusyError while another process makes it,
    ConfigError, StorageError, DriverError, GuestError, HypervisorError, AgentError.
    """
    return run_blocking(client.templates.create_template(config, progress))


def list_templates() -> list[TemplateStatus]:
    """Return all templates, the one that was used last at the end. Raises StorageError."""
    return run_blocking(client.templates.list_templates())


def delete_template(kind: str) -> None:
    """Delete a template; pods that were started from it are not touched.

    ``kind``: as :func:`list_templates` returns it. Raises TemplateNotFoundError, StorageError.
    """
    run_blocking(client.templates.delete_template(kind))


def pull_image(reference: str, *, tls_verify: bool = True, progress: Progress | None = None) -> ImageStatus:
    """Fetch an image from its registry and unpack it, unless this host has what the name stands for now.

    ``reference``: a name as docker takes it, such as "busybox", or one that is pinned to a content, "NAME@sha256:...".
    ``tls_verify``: False for a registry without TLS, or without a certificate that this host trusts. The credentials
    for a registry are those of skopeo. ``progress`` as for :func:`start_pod`. An image of that name that is there
    already keeps its digest and its pods.
    Returns the image. Raises ConfigError for what is no name, ImageError, StorageError.
    """
    return run_blocking(client.images.pull_image(reference, tls_verify, progress))


def import_image(source: str, *, name: str = "", progress: Progress | None = None) -> ImageStatus:
    """Store an image from a file or directory of this host.

    ``source``: an archive of docker save, an OCI archive, or the directory of an OCI layout; with the name of an image
    in it, "docker-archive:FILE:NAME", "oci-archive:FILE:TAG" or "oci:DIRECTORY:TAG". ``name``: the name that it gets,
    empty for none: it can be used by its digest then. ``progress`` as for :func:`start_pod`.
    Returns the image. Raises ConfigError, ImageError, StorageError.
    """
    return run_blocking(client.images.import_image(source, name, progress))


def list_images() -> list[ImageStatus]:
    """Return all images on this host, sorted by their names. Raises StorageError."""
    return run_blocking(client.images.list_images())


def status_image(reference: str) -> ImageStatus:
    """Return an image on this host, by its name or digest; a digest may be shortened to 12 digits.

    Raises ConfigError, ImageNotFoundError, ImageError for a digest that several images have, StorageError.
    """
    return run_blocking(client.images.status_image(reference))


def delete_image(reference: str) -> None:
    """Delete a name, and with its last name the image; by its digest, an image with all its names.

    Raises ConfigError, ImageNotFoundError, ImageError, StateError for an image that a pod has, StorageError.
    """
    run_blocking(client.images.delete_image(reference))


def prune_images(*, every: bool = False, dry_run: bool = False) -> list[ImageStatus]:
    """Delete images that no pod has: those without a name, or with ``every`` all. ``dry_run``: delete nothing.

    What was left of pulls that were killed is removed as well. Returns the images. Raises StorageError.
    """
    return run_blocking(client.images.prune_images(every, dry_run))
