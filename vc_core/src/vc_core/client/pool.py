"""Keeps pods started that wait to be taken: what stands behind ``PodPool`` of both APIs.

One thread, the keeper, decides which pods to start and to delete; each start and each deletion has a thread of its own.
The keeper waits for events only: a pod was taken, a start ended, a VM ended, a pod is too old.
"""

from __future__ import annotations

import atexit
import logging
import os
import select
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

from vc_core.client.interpreters import InThread, Operation, Ready, run_blocking, system_errors
from vc_core.client.pods import run_pod
from vc_core.client.removing import delete_pod
from vc_core.config.fields import check_type
from vc_core.config.ids import check_id, new_id
from vc_core.config.pod import PodConfig
from vc_core.config.values import check_timeout
from vc_core.driver.process import ProcessIdentity
from vc_core.errors import BusyError, ConfigError, PodNotFoundError, StateError, VCError
from vc_core.frozen import frozen
from vc_core.states import State
from vc_core.store import pools
from vc_core.store.pools import PoolMark
from vc_core.store.status import effective_record, vm_identity
from vc_core.store.store import Store

#: Most pods of a pool.
SIZE_MAX = 1000

#: Seconds after a pod was taken in which no other is started, unless none waits: a start takes the processor from the
#: first commands in the pod that was taken.
_CALM = 0.3

_log = logging.getLogger(__name__)


@frozen
class _Waiting:
    """A started pod. ``since``: when it was started. ``pidfd``: of its VM, None for one that is no process."""

    pod_id: str
    since: float
    pidfd: int | None

    def release(self) -> None:
        if self.pidfd is not None:
            os.close(self.pidfd)


class _ClosedError(Exception):
    """The pool was closed while a pod of it was being made."""


class Keeper:
    """The pods of one pool. :meth:`take` and :meth:`close` are operations; any number of threads may perform them."""

    def __init__(self, config: PodConfig, size: int, max_age: float | None, name: str) -> None:
        """Start to fill the pool; see ``PodPool``. Raises ConfigError, StorageError."""
        check_type("config", config, PodConfig)
        if config.id:
            raise ConfigError(f"the pods of a pool have ids of their own; leave out the id {config.id!r}")
        if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= SIZE_MAX:
            raise ConfigError(f"the size of a pool is {size!r}; give a number of pods from 1 to {SIZE_MAX}")
        check_timeout(max_age, name="max_age of a pool")
        self.name = check_id("pool", name or new_id()[:8])
        self._store, self._config, self._size, self._max_age = Store.here(), config, size, max_age
        owner = ProcessIdentity.of(os.getpid())
        assert owner is not None
        self._owner, self._mark = owner, PoolMark(pool=self.name, owner=owner.to_mapping())
        self._lock = threading.Lock()  # of the fields below but the threads; may be held when theirs is taken
        self._threads_lock = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._starting: set[str] = set()
        self._threads: set[threading.Thread] = set()
        self._failure: BaseException | None = None
        self._calm_until, self._closed = 0.0, False
        flags = os.EFD_NONBLOCK | os.EFD_CLOEXEC
        #: Counts what can be taken: pods, and the error that kept one from starting.
        self._ready = os.eventfd(0, flags | os.EFD_SEMAPHORE)
        self._wake = os.eventfd(0, flags)
        for descriptor in (self._ready, self._wake):
            weakref.finalize(self, os.close, descriptor)
        atexit.register(self._close)
        self._start_thread(self._keep)

    def take(self, timeout: float | None) -> Operation[str]:
        """Return the id of a running pod, which is then the caller's; wait for one if none is ready.

        ``timeout``: seconds. Raises BusyError when it expires, StateError for a pool that is closed or another process'
        one, and the error that kept a pod from starting if none is left; the pool then tries again.
        """
        check_timeout(timeout)
        if self._is_copy():
            raise StateError(
                f"pool {self.name!r} belongs to process {self._owner.pid}, of which this one is a fork; make another",
                state="forked",
                wanted=[],
            )
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            claimed: list[str] = []
            try:
                pod_id: str | None = yield InThread(partial(self._claim, claimed))
            except BaseException:  # such as a cancellation: the caller does not get the pod
                yield InThread(partial(self._delete, claimed))
                raise
            if pod_id is not None:
                return pod_id
            with system_errors():
                own = os.dup(self._ready)  # an event loop waits for a descriptor once, and its tasks may be many
            try:
                ready = yield Ready(read=(own,), deadline=deadline)
            finally:
                os.close(own)
            if not ready:
                raise BusyError(f"no pod of pool {self.name!r} got ready within {timeout:g} s; wait longer")

    def close(self) -> Operation[None]:
        """Delete all pods of the pool, those that are being started too; pods that were taken are not its own.

        In a fork of the process that made the pool, nothing is done: the pods are not the fork's.
        """
        yield InThread(self._close)

    def _is_copy(self) -> bool:
        """Return whether this is a fork of the pool's process: it has no keeper, and locks that nobody releases."""
        return os.getpid() != self._owner.pid

    def _claim(self, claimed: list[str]) -> str | None:
        """Return a pod that waited and is alive, and is the pool's no more; None if none waits.

        ``claimed``: gets the id of each pod that is removed from the pool, before anything is done with it.
        Raises StateError, and the error of a start that failed.
        """
        while True:
            with self._lock:
                if self._closed:
                    raise StateError(f"pool {self.name!r} is closed; make another", state="closed", wanted=[])
                failure, self._failure = self._failure, None
                if failure is not None:
                    os.eventfd_read(self._ready)
                one = self._waiting[0] if self._waiting else None
                if one is not None:
                    claimed.append(one.pod_id)
                    self._remove(one)
                self._calm_until = time.monotonic() + _CALM
                os.eventfd_write(self._wake, 1)
            if one is None:
                if failure is not None:
                    raise failure
                return None
            alive = self._is_alive(one)
            one.release()
            if alive:
                pools.unmark(self._store.roots, one.pod_id)
                return one.pod_id
            self._delete([one.pod_id])

    def _is_alive(self, one: _Waiting) -> bool:
        if one.pidfd is not None:
            return not _readable([one.pidfd], 0.0)
        try:
            return effective_record(self._store.read(one.pod_id)).state is State.RUNNING
        except (VCError, LookupError):
            return False

    def _add(self, one: _Waiting) -> None:
        """Add a started pod. Called with the lock held."""
        self._waiting.append(one)
        os.eventfd_write(self._ready, 1)

    def _remove(self, one: _Waiting) -> _Waiting:
        """Remove a waiting pod and return it; the caller releases it. Called with the lock held."""
        self._waiting.remove(one)
        os.eventfd_read(self._ready)
        return one

    # -- the keeper's thread -------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        self._delete_abandoned()
        while True:
            with self._lock:
                if self._closed:
                    return
                now = time.monotonic()
                pidfds = [one.pidfd for one in self._waiting if one.pidfd is not None]
                ended = _readable(pidfds, 0.0)  # anew, because numbers that were waited for may be others' by now
                oldest = -1.0 if self._max_age is None else now - self._max_age
                gone = [self._remove(one) for one in list(self._waiting) if one.pidfd in ended or one.since <= oldest]
                wanted = self._fill(now)
                patience = self._next_change(now)
            for one in gone:
                one.release()
            self._delete(one.pod_id for one in gone)
            for pod_id in wanted:
                self._execute(partial(self._start, pod_id))
            if self._wake in _readable([self._wake, *(set(pidfds) - ended)], patience):
                os.eventfd_read(self._wake)

    def _fill(self, now: float) -> list[str]:
        """Return the ids of pods to start, as many as processors at a time; none once a start has failed.

        Called with the lock held.
        """
        if self._failure is not None or (self._waiting and now < self._calm_until):
            return []
        missing = self._size - len(self._waiting) - len(self._starting)
        wanted = [new_id() for _ in range(min(missing, (os.cpu_count() or 1) - len(self._starting)))]
        self._starting.update(wanted)
        return wanted

    def _next_change(self, now: float) -> float | None:
        """Return the seconds until time alone changes something, None for never. Called with the lock held."""
        times = [self._calm_until] if self._calm_until > now else []
        if self._waiting and self._max_age is not None:
            times.append(self._waiting[0].since + self._max_age)
        return max(0.0, min(times) - now) if times else None

    def _delete_abandoned(self) -> None:
        """Delete the waiting pods of pools whose process has ended without closing them."""
        with suppress(VCError, OSError):
            marks = {pod_id: pools.find_mark(self._store.roots, pod_id) for pod_id in self._store.ids()}
            self._delete(pod_id for pod_id, found in marks.items() if found is not None and not found.is_owned())

    # -- threads for one pod each --------------------------------------------------------------------------------------

    def _start_thread(self, work: Callable[[], None]) -> None:
        """Execute a function on a thread for which :meth:`close` waits. Raises RuntimeError if there can be none."""
        thread = threading.Thread(target=work, name=f"pool {self.name}", daemon=True)
        with self._threads_lock:
            self._threads = {one for one in self._threads if one.is_alive()}
            thread.start()
            self._threads.add(thread)

    def _execute(self, work: Callable[[], None]) -> None:
        """Execute a function on a thread of its own, or here where the host or the end of the program allows none."""
        try:
            self._start_thread(work)
        except RuntimeError:
            work()

    def _start(self, pod_id: str) -> None:
        failure: BaseException | None = None
        one: _Waiting | None = None
        try:
            run_blocking(run_pod(self._config.with_id(pod_id), created=self._created))
            identity = vm_identity(self._store.read(pod_id))
            one = _Waiting(pod_id, time.monotonic(), None if identity is None else identity.open_pidfd())
        except BaseException as error:
            failure = error
            _delete(pod_id)  # it may run: only what came after its start failed
        with self._lock:
            self._starting.discard(pod_id)
            if not self._closed:
                if one is not None:
                    self._add(one)
                elif self._failure is None:
                    self._failure = failure
                    os.eventfd_write(self._ready, 1)
                os.eventfd_write(self._wake, 1)
                return
        if one is not None:
            one.release()
            _delete(pod_id)

    def _created(self, pod_id: str) -> None:
        pools.mark(self._store, pod_id, self._mark)
        if self._closed:
            raise _ClosedError  # run_pod deletes the pod

    def _delete(self, pod_ids: Iterable[str]) -> None:
        for pod_id in pod_ids:
            self._execute(partial(_delete, pod_id))

    # -- the end -------------------------------------------------------------------------------------------------------

    def _end(self) -> list[str]:
        """Let the keeper and :meth:`take` see that the pool is closed; return the pods to delete."""
        with self._lock:
            self._closed = True
            waiting, starting = list(self._waiting), list(self._starting)
            self._waiting.clear()
            os.eventfd_write(self._ready, 1)
            os.eventfd_write(self._wake, 1)
        for one in waiting:
            one.release()
        return [*(one.pod_id for one in waiting), *starting]

    def _close(self) -> None:
        if self._is_copy():
            return
        atexit.unregister(self._close)
        self._delete(self._end())
        while threads := self._alive_threads():
            threads[0].join()

    def _alive_threads(self) -> list[threading.Thread]:
        with self._threads_lock:
            return [one for one in self._threads if one.is_alive()]


def _delete(pod_id: str) -> None:
    try:
        run_blocking(delete_pod(pod_id, force=True))
    except PodNotFoundError:
        pass
    except (VCError, OSError) as error:
        _log.error("pod %s of a pool cannot be deleted: %s", pod_id, error)


def _readable(descriptors: Iterable[int], patience: float | None) -> set[int]:
    """Return the descriptors that can be read, after waiting for one, ``patience`` seconds at most; None: any time."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll(None if patience is None else patience * 1000)}
