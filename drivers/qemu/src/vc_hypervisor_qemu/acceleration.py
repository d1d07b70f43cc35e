"""Chooses hardware virtualization or emulation by what works on this host, not by what exists.

A host can have ``/dev/kvm`` and still fail to run a VM: inside a virtual machine without nested virtualization, KVM
creates one, which runs its firmware and hangs. So the pod's kernel is really booted once, and the outcome is recorded.
"""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import IO

from vc_core.driver import PodContext, VMProcess, boot_id, frozen, read_regular, vm_process
from vc_core.errors import VMStartError
from vc_hypervisor_qemu import cmdline
from vc_hypervisor_qemu.arguments import options
from vc_hypervisor_qemu.config import QemuConfig

#: Seconds in which a kernel must print one of :data:`_ALIVE`; under working KVM it needs less than one.
TRIAL_TIMEOUT = 5.0

#: MiB of the VM of a trial, and the command line of its kernel: print everything, and reset where there is no root.
_TRIAL_MEMORY = 256
_TRIAL_PARAMS = "console=ttyS0 panic=-1 reboot=t"

#: Lines that a kernel prints when it has initialized itself and looks for its first program (Linux' init/main.c,
#: init/do_mounts.c).
_ALIVE = (b"Unable to mount root fs", b"Run /init as init process", b"Run /sbin/init as init process")

#: CPU features without which KVM cannot work on x86 (Intel, AMD), as /proc/cpuinfo names them.
_VIRTUALIZATION = {b"vmx", b"svm"}


@frozen
class Host:
    """The files that show whether KVM can work; tests pass others."""

    kvm: Path = Path("/dev/kvm")
    cpuinfo: Path = Path("/proc/cpuinfo")

    def obstacle(self) -> str:
        """Return why KVM cannot work here, or "" if it may work."""
        try:
            os.close(os.open(self.kvm, os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            return f"{self.kvm} cannot be opened: {error.strerror}"
        with self.cpuinfo.open("rb") as lines:  # up to the first CPU's features: the file is long on a large host
            features = next((line.split() for line in lines if line.startswith(b"flags")), [])
        if not _VIRTUALIZATION & set(features):
            return "the CPU does not offer hardware virtualization (vmx or svm)"
        return ""


async def choose(
    pod: PodContext, config: QemuConfig, binary: Path, kernel: Path, timeout: float, host: Host | None = None
) -> str:
    """Return the accelerator for a pod's VM, "kvm" or "tcg". Called before each VM is created.

    Outcomes of trials are recorded beside the pods' run directories; a trial takes ``timeout`` seconds at most.
    Raises VMStartError when the option accel is "kvm" and KVM does not work.
    """
    if config.accel == "tcg":
        return "tcg"
    obstacle = (host or Host()).obstacle() or await _recorded_trial(pod, config, binary, kernel, timeout)
    if not obstacle:
        return "kvm"
    if config.accel == "kvm":
        raise VMStartError(f"KVM does not work: {obstacle}; set the option accel to 'auto' or 'tcg'")
    return "tcg"


async def trial(
    pod: PodContext, config: QemuConfig, binary: Path, kernel: Path, accelerator: str, timeout: float
) -> str:
    """Boot ``kernel`` alone under ``accelerator``; return "" if it runs within ``timeout`` seconds, else why not.

    If this process is killed meanwhile, the core finds QEMU by its working directory and arguments, and ends it.
    Raises VMStartError when QEMU cannot be started at all.
    """
    argv = [
        *(str(binary), "-name", options("", {"guest": pod.id}), "-uuid", pod.uuid),
        *("-no-user-config", "-nodefaults", "-no-reboot", "-display", "none", "-sandbox", cmdline.SANDBOX),
        *cmdline.machine(config, accelerator),
        *("-m", f"{_TRIAL_MEMORY}M", "-serial", "stdio"),
        *("-kernel", str(kernel), "-append", _TRIAL_PARAMS),
    ]
    reading, writing = os.pipe()
    pipe = os.fdopen(reading, "rb", buffering=0)
    try:
        _, pidfd = vm_process.spawn(argv, pod.run_dir, writing, ())
    except BaseException:
        pipe.close()
        raise
    finally:
        os.close(writing)
    process = VMProcess(pidfd)
    try:
        async with asyncio.timeout(timeout):
            return await _wait_for_kernel(pipe)
    except TimeoutError:
        return f"a kernel does not start under {accelerator} within {timeout:g} s"
    finally:
        process.kill()
        process.close()


async def _wait_for_kernel(pipe: IO[bytes]) -> str:
    """Return "" once the kernel has printed one of _ALIVE, else QEMU's last line when it ends. Closes ``pipe``."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), pipe
    )
    output = b""
    try:
        while chunk := await reader.read(65536):
            output = output[-65536:] + chunk
            if any(sign in output for sign in _ALIVE):
                return ""
    finally:
        transport.close()
    lines = output.decode(errors="replace").split("\n")
    return f"QEMU gave up: {next((line.strip() for line in reversed(lines) if line.strip()), 'without a message')}"


async def _recorded_trial(pod: PodContext, config: QemuConfig, binary: Path, kernel: Path, timeout: float) -> str:
    """Return the recorded outcome of a KVM trial in this boot, with this QEMU and kernel, else that of a new trial."""
    key = f"{_version(binary)} {_version(kernel)} {config.machine} {config.cpu}"
    cache, this_boot = pod.run_dir.parent / "acceleration.json", boot_id()
    outcomes = _read(cache, this_boot)
    if key not in outcomes:
        outcomes[key] = await trial(pod, config, binary, kernel, "kvm", min(timeout, TRIAL_TIMEOUT))
        if not outcomes[key] or timeout >= TRIAL_TIMEOUT:  # a failure in less than the full time is not recorded
            _write(cache, this_boot, outcomes)
    return outcomes[key]


#: Most bytes of a record that is read.
_RECORD_MAX = 1024 * 1024


def _version(path: Path) -> str:
    status = path.stat()
    return f"{path.resolve()}:{status.st_size}:{status.st_mtime_ns}"


def _read(cache: Path, this_boot: str) -> dict[str, str]:
    """Return the recorded outcomes of this boot; none if the file is missing or damaged."""
    try:
        recorded = json.loads(read_regular(cache, _RECORD_MAX))
        if recorded["boot"] == this_boot:
            return {str(key): str(outcome) for key, outcome in recorded["outcomes"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        pass
    return {}


def _write(cache: Path, this_boot: str, outcomes: dict[str, str]) -> None:
    """Record the outcomes. If that fails, the next start makes a trial again."""
    new = cache.with_name(f"{cache.name}.{os.getpid()}")
    try:
        new.write_text(json.dumps({"boot": this_boot, "outcomes": outcomes}), encoding="utf-8")
        new.replace(cache)
    except OSError:
        with suppress(OSError):
            new.unlink(missing_ok=True)
