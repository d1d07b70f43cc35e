"""Files into guests and out of them, as operations; each written once, for both interpreters."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import IO

from vc_core.archives import packing, unpacking
from vc_core.archives.entries import IncompleteError
from vc_core.client.connect import connect
from vc_core.client.foreground import on_started, run_with_streams
from vc_core.client.interpreters import Operation, Ready
from vc_core.client.stdio import Stdio
from vc_core.config.values import check_text, check_timeout
from vc_core.driver.copies import GuestCopy
from vc_core.errors import ConfigError, CopyError, VCError
from vc_core.states import Action
from vc_core.store.status import effective_record, require
from vc_core.store.store import Store
from vc_core.supervisor.messages import Copy, Streams

#: What the functions of the API take for a file or directory of this host; of a file object, a tar archive.
HostFiles = str | os.PathLike[str] | IO[bytes]

#: Bytes of a guest's message that are kept.
_MESSAGE_MAX = 4096

#: Seconds for the thread that reads or writes files here to end, after its pipe was closed.
_THREAD_TIMEOUT = 10.0


def copy_in(
    pod_id: str,
    container_id: str,
    source: HostFiles,
    path: str,
    owners: bool = False,
    follow: bool = False,
    timeout: float | None = None,
) -> Operation[None]:
    """Copy files into a running container, or for an empty id into the pod itself.

    Raises PodNotFoundError, ContainerNotFoundError, StateError, ConfigError, NotSupportedError, CopyError,
    CommandTimeoutError, SupervisorLostError.
    """
    host = _host_path("source", source)
    name = "" if host is None else packing.name_of(host)

    def write(fd: int) -> None:
        if host is not None:
            pieces = packing.pack(host, owners=owners, follow=follow)
        else:
            pieces = packing.repack(source, owners=owners)  # type: ignore[arg-type] # a file, see _host_path
        with os.fdopen(fd, "wb", buffering=0) as pipe, suppress(BrokenPipeError):  # the guest says why
            for piece in pieces:
                view = memoryview(piece)
                while view:
                    view = view[pipe.write(view) :]

    check_text("the name of source", name, "source")
    copy = GuestCopy(_guest_path(path), into=True, name=name)
    return (yield from _copy(pod_id, container_id, copy, write, timeout))


def copy_out(
    pod_id: str,
    container_id: str,
    path: str,
    destination: HostFiles,
    owners: bool = False,
    follow: bool = False,
    timeout: float | None = None,
) -> Operation[None]:
    """Copy files out of a running container, or for an empty id out of the pod itself.

    Raises what :func:`copy_in` raises.
    """
    host = _host_path("destination", destination)
    name = packing.name_of(_guest_path(path))

    def read(fd: int) -> None:
        with os.fdopen(fd, "rb") as pipe:
            if host is not None:
                unpacking.unpack(pipe, host, name, owners=owners)
            else:
                unpacking.pass_on(pipe, destination, name)  # type: ignore[arg-type] # a file, see _host_path

    return (yield from _copy(pod_id, container_id, GuestCopy(path, follow=follow), read, timeout))


def _copy(
    pod_id: str, container_id: str, copy: GuestCopy, work: Callable[[int], None], timeout: float | None
) -> Operation[None]:
    """Perform a copy; ``work`` is called in a thread with this process' end of the pipe, and closes it."""
    check_timeout(timeout)
    store = Store.here()
    record = effective_record(store.read(pod_id))
    require(record, Action.COPY_CONTAINER if container_id else Action.COPY_POD, container_id)
    where = f"container {container_id!r}" if container_id else f"pod {pod_id!r}"
    what = f"the copy of files {'into' if copy.into else 'out of'} {where}"
    with ExitStack() as cleanup:
        reader, writer = os.pipe()
        ours, theirs = (writer, reader) if copy.into else (reader, writer)
        unused = [ours, theirs]
        cleanup.callback(_close, unused)
        worker = _Worker(work)

        def begin(_: object) -> None:
            unused.clear()
            os.close(theirs)
            worker.start(ours)

        ends = (theirs, subprocess.DEVNULL) if copy.into else (None, theirs)
        stdio = Stdio(ends[0], ends[1], None, max_output=_MESSAGE_MAX)
        try:
            request = Copy(container=container_id, copy=copy, streams=Streams(passed=stdio.passed))
            link = yield from connect(store, record, send=lambda link: link.send(request, stdio.fds))
            try:
                answer = yield from run_with_streams(link, stdio, what, timeout, None, on_started(begin))
            finally:
                yield from link.close()
            yield from worker.wait(None)
        finally:
            stdio.close()
            yield from worker.wait(_THREAD_TIMEOUT)
    if not (answer.code and isinstance(worker.error, IncompleteError)):  # the guest says why it is not
        worker.check()
    if answer.code:
        reason = stdio.stderr.decode(errors="replace").strip() or f"it ended with exit code {answer.code}"
        raise CopyError(f"files cannot be copied {'into' if copy.into else 'out of'} {where}: {reason}")


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


class _Worker:
    """Reads or writes the files of this host in a thread of its own, while the operation carries messages."""

    def __init__(self, work: Callable[[int], None]) -> None:
        self._work = work
        self._ended = -1  # a pipe, at its end when the thread has ended
        self.error: BaseException | None = None

    def start(self, fd: int) -> None:
        """Call the function with a descriptor, which it closes."""
        self._ended, running = os.pipe()
        threading.Thread(target=self._run, args=(fd, running), name="vc-copy", daemon=True).start()

    def _run(self, fd: int, running: int) -> None:
        try:
            self._work(fd)
        except BaseException as error:
            self.error = error
        finally:
            os.close(running)

    def wait(self, timeout: float | None) -> Operation[None]:
        """Wait until the function has returned, ``timeout`` seconds at most. Idempotent."""
        if self._ended >= 0:
            deadline = None if timeout is None else time.monotonic() + timeout
            try:
                yield Ready(read=[self._ended], deadline=deadline)
            finally:
                os.close(self._ended)
                self._ended = -1

    def check(self) -> None:
        """Raise what the function raised; CopyError in the place of an OSError."""
        if isinstance(self.error, OSError) and not isinstance(self.error, VCError):
            raise CopyError(f"the archive cannot be passed on: {self.error.strerror or self.error}") from self.error
        if self.error is not None:
            raise self.error


def _host_path(what: str, given: HostFiles) -> str | None:
    """Return a path of this host, None for a file object. Raises ConfigError for what is neither."""
    if isinstance(given, str | os.PathLike):
        path = os.fspath(given)
        if path and "\0" not in path:
            return path
    elif getattr(given, "readable" if what == "source" else "writable", bool)():
        return None
    kind = "read from" if what == "source" else "write to"
    raise ConfigError(f"{what} is {given!r}; give a path, or a file to {kind} that is open in binary mode", field=what)


def _guest_path(path: str) -> str:
    """Return a path of the guest. Raises ConfigError."""
    if not isinstance(path, str) or not path:
        raise ConfigError(f"path is {path!r}; give a path in the container", field="path")
    check_text("path", path, "path")
    return path
