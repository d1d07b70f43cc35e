"""Starts supervisors: each waits for the word that its pod is stored, so that one can be started before that is so."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from vc_core.client.interpreters import InThread, Operation, Ready
from vc_core.decoding import decode_json
from vc_core.driver.process import ProcessIdentity
from vc_core.errors import ConfigError, StorageError, SupervisorError, VCError, error_from_wire
from vc_core.host.processes import find_starting_supervisor, supervisor_arguments
from vc_core.store.store import Store
from vc_core.supervisor.ready import BUSY, GO, OK

if TYPE_CHECKING:
    from vc_core.config.pod import PodConfig
    from vc_core.store.records import PodRecord

#: Variables of the caller's environment that a supervisor gets, and beginnings of such: what finds programs, packages
#: and directories, and what is made for this project, its drivers (``VC_``) and its tests. Others may hold secrets.
_VARIABLES = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR"}
)
_PROXIES = frozenset(f"{scheme}_proxy" for scheme in ("http", "https", "ftp", "no", "all"))  # written in either case
_BEGINNINGS = ("VIRTCONTAINERS_", "VC_", "XDG_", "LC_", "PYTHON", "COVERAGE_")

#: Capabilities (linux/capability.h) that no supervisor needs, nor any program that it runs: LINUX_IMMUTABLE,
#: SYS_MODULE, SYS_RAWIO, SYS_PACCT, SYS_BOOT, SYS_TIME, LEASE, AUDIT_CONTROL, MAC_OVERRIDE, MAC_ADMIN, SYSLOG,
#: WAKE_ALARM, BLOCK_SUSPEND, AUDIT_READ, PERFMON, BPF.
_NEEDLESS = (9, 16, 17, 20, 22, 25, 28, 30, 32, 33, 34, 35, 36, 37, 38, 39)

#: Seconds for a supervisor that is killed to end.
_KILL_TIMEOUT = 10.0

#: Milliseconds after which a supervisor that was not found, and has not ended, is searched for again.
_SEARCH_INTERVAL = 20


class Starting:
    """A supervisor of a pod that is being started, from its spawn to the message that it serves.

    Used once: :meth:`serve` alone, or :meth:`spawn_early` before the pod is stored, then :meth:`serve` or not, and
    :meth:`close` in any case. A caller that has no configuration yet calls :meth:`spawn` even before that.
    """

    def __init__(self, store: Store, pod_id: str) -> None:
        self._store, self.pod_id = store, pod_id
        #: This process' ends of the pipes: to its standard input, and from where it gets ready and reports errors.
        self._ends: tuple[int, int, int] | None = None

    @property
    def waits(self) -> bool:
        """Whether it was spawned and not asked to serve yet."""
        return self._ends is not None

    def spawn(self) -> None:
        """Spawn it, and let it load its modules. Raises SupervisorError."""
        self._spawn(None)

    def spawn_early(self, config: PodConfig) -> None:
        """Spawn it, if the pod of this configuration is likely to start as a clone, and let it load the drivers.

        A hypervisor of which there are templates has VMs that need a supervisor. Other starts take seconds, of which
        this would save a small part. Called in a thread while the pod is not stored yet. Raises SupervisorError.
        """
        from vc_core.store.settings import read_settings
        from vc_core.store.templates import Templates

        try:
            completed = read_settings(self._store.roots.environment).pod.complete(config)
            if not Templates(self._store.roots.cache).has_any_of(completed.hypervisor_type, completed.agent_type):
                return
            msgspec.json.encode(completed)
        except (ConfigError, StorageError, UnicodeEncodeError):
            return  # which the creation of the pod raises
        if not self.waits:
            self.spawn()
        from vc_core.plugins.discovery import installed  # loaded after the spawn: the supervisor begins meanwhile
        from vc_core.supervisor.early import Early

        self._write(msgspec.json.encode(Early(completed, installed().hand_over())) + b"\n")

    def serve(self, record: PodRecord, deadline: float) -> Operation[bytes]:
        """Let it serve the pod, which is stored; return ``OK`` when it does, ``BUSY`` if it found that the pod is busy.

        Returns b"" if it ended without a message, or with its VM, in whose namespace it was to be. If the operation
        gives up before the supervisor is ready, or is interrupted, the supervisor is killed. Raises SupervisorError,
        and the error that keeps it from serving.
        """
        from vc_core.store.status import vm_identity  # loaded after an early spawn: the supervisor begins meanwhile
        from vc_core.supervisor import wire

        vm = None if self.waits else vm_identity(record)
        answer, enters = b"", False
        try:
            if not self.waits:
                enters = yield InThread(lambda: self._spawn(vm))
            assert self._ends is not None
            _, ready, errors = self._ends
            yield InThread(lambda: self._write(GO))
            while (yield Ready(read=[ready], deadline=deadline)):
                data = os.read(ready, wire.PACKET_MAX)
                if not data:
                    break
                answer += data
            else:
                hung = last_call(self._store, self.pod_id, " while ")
                raise SupervisorError(
                    f"the supervisor of pod {self.pod_id!r} did not get ready in time{hung}; it was killed"
                )
            if not answer:
                # The process has ended; before it is ready, its error output comes here.
                why = os.read(errors, wire.PACKET_MAX).decode(errors="replace").strip().rpartition("\n")[2]
                if not why or (enters and vm is not None and not vm.alive()):
                    return b""
                raise SupervisorError(f"the supervisor of pod {self.pod_id!r} cannot be started: {why}")
        except BaseException:
            yield InThread(self.close)
            raise
        finally:
            self._close_ends()
        if answer not in (OK, BUSY):
            raise error_from_wire(decode_json(answer, dict))
        return answer

    def close(self) -> None:
        """Kill it if it does not serve yet. Idempotent."""
        if self._ends is None:
            return
        (words, ready, errors), self._ends = self._ends, None
        os.close(words)  # at whose end it leaves as well, once it has loaded its modules
        ended, deadline = select.poll(), time.monotonic() + _KILL_TIMEOUT
        ended.register(ready, 0)  # reports that the other end of the pipe is closed
        try:
            while True:
                for supervisor in find_starting_supervisor(self.pod_id, ready):
                    supervisor.kill(_KILL_TIMEOUT)
                # In the midst of execve(2) a process has no arguments, and is not found.
                if ended.poll(_SEARCH_INTERVAL) or time.monotonic() > deadline:
                    return
        finally:
            os.close(ready)
            os.close(errors)

    def _close_ends(self) -> None:
        ends, self._ends = self._ends, None
        for end in ends or ():
            os.close(end)

    def _write(self, line: bytes) -> None:
        assert self._ends is not None
        with suppress(BrokenPipeError):  # it has ended, which the end of its other pipes shows
            os.write(self._ends[0], line)

    def _spawn(self, vm: ProcessIdentity | None) -> bool:
        """Start the process, as a child of init, in a new mount namespace or in that of the VM that it takes over.

        That of a plain user enters the namespace by itself. Returns whether it is started in that of the VM. Raises
        SupervisorError.
        """
        enters = os.geteuid() == 0 and vm is not None and vm.alive()
        if os.geteuid() != 0:
            namespace = []
        elif vm is not None and enters:
            namespace = ["nsenter", f"--mount=/proc/{vm.pid}/ns/mnt", "--"]
        else:
            namespace = ["unshare", "--mount", "--propagation", "private", "--"]
        (words, writes), (reads, ready), (errors, problems) = os.pipe(), os.pipe(), os.pipe()
        self._ends = writes, reads, errors
        python = [sys.executable, *supervisor_arguments(self.pod_id), str(ready)]
        try:
            subprocess.run(
                ["setsid", "--fork", *namespace, *_less_capable(), *python],
                pass_fds=[ready],
                stdin=words,
                stdout=subprocess.DEVNULL,
                stderr=problems,
                check=True,
                cwd="/",
                env=_environment(self._store.roots.environment),
            )
        except (OSError, subprocess.CalledProcessError) as error:
            raise SupervisorError(f"'setsid' (Debian package util-linux) cannot be run: {error}") from error
        finally:
            for end in (words, ready, problems):
                os.close(end)
        return enters


def begin_early(store: Store, pod_id: str) -> Starting:
    """Return what starts the supervisor of a pod whose configuration is not there yet; it is spawned if that may help.

    That is so where there are templates, of whatever drivers. Raises nothing: what fails here fails again when the pod
    is run, which raises it. The caller closes it.
    """
    from vc_core.store.templates import Templates

    starting = Starting(store, pod_id)
    try:
        if Templates(store.roots.cache).has_any():
            starting.spawn()
    except (VCError, OSError):
        starting.close()
    return starting


def last_call(store: Store, pod_id: str, before: str) -> str:
    """Return ``before`` and the plug-in's call that the pod's supervisor is executing or ended in; "" for none."""
    from vc_core.plugins import running_call  # for an error

    try:
        directory = os.open(store.roots.pod_run_dir(pod_id), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        record = running_call.open_record(directory)
    finally:
        os.close(directory)
    if record is None:
        return ""
    try:
        call = running_call.read(record)
    finally:
        os.close(record)
    return before + call if call else ""


def _environment(caller: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a supervisor: of that of its caller, what a supervisor may need."""
    return {
        name: value
        for name, value in caller.items()
        if name.lower() in _PROXIES or name in _VARIABLES or name.startswith(_BEGINNINGS)
    }


def _less_capable() -> list[str]:
    """Return the beginning of a command that runs a program without the capabilities that no supervisor needs."""
    if os.geteuid() != 0:
        return []
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text(encoding="utf-8"))
    return ["setpriv", "--bounding-set", ",".join(f"-cap_{number}" for number in _NEEDLESS if number <= last), "--"]
