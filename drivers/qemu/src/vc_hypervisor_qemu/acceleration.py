"""Hardware virtualization or emulation: chosen by what works on this host, not by what exists.

A host can have ``/dev/kvm`` and not be able to run a VM: a virtual machine without nested virtualization accepts one,
runs its firmware and hangs. So the last word is a real boot of the pod's kernel, whose outcome is remembered.
"""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from vc_core.driver import PodContext, VMProcess, boot_id, vm_process
from vc_core.errors import VMStartError
from vc_hypervisor_qemu import cmdline
from vc_hypervisor_qemu.arguments import options
from vc_hypervisor_qemu.config import QemuConfig

#: Seconds in which a kernel must show that it runs; under working KVM it needs less than one.
TRIAL_TIMEOUT = 5.0

#: MiB of the VM that tries it, and what its kernel is told: to show all it says, and to give up where it finds no root.
_TRIAL_MEMORY = 256
_TRIAL_PARAMS = "console=ttyS0 panic=-1 reboot=t"

#: What a kernel says when it has initialized itself and looks for its first program (init/main.c, init/do_mounts.c).
_ALIVE = (b"Unable to mount root fs", b"Run /init as init process", b"Run /sbin/init as init process")

#: CPU features without which KVM cannot work on x86 (Intel, AMD), as /proc/cpuinfo names them.
_VIRTUALIZATION = {b"vmx", b"svm"}


@dataclass(frozen=True, slots=True)
class Host:
    """Where to look; tests look elsewhere."""

    kvm: Path = Path("/dev/kvm")
    cpuinfo: Path = Path("/proc/cpuinfo")

    def obstacle(self) -> str:
        """Return why KVM cannot work here, or "" if nothing speaks against it."""
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

    Outcomes of trials are remembered beside the pods' run directories; a trial takes ``timeout`` seconds at most.
    Raises VMStartError when the configuration demands KVM and it does not work.
    """
    if config.accel == "tcg":
        return "tcg"
    obstacle = (host or Host()).obstacle() or await _remembered_trial(pod, config, binary, kernel, timeout)
    if not obstacle:
        return "kvm"
    if config.accel == "kvm":
        raise VMStartError(f"KVM does not work: {obstacle}; set the option accel to 'auto' or 'tcg'")
    return "tcg"


async def trial(
    pod: PodContext, config: QemuConfig, binary: Path, kernel: Path, accelerator: str, timeout: float
) -> str:
    """Boot ``kernel`` alone under ``accelerator``; return why it does not come to life, or "" if it does.

    Should we be killed meanwhile, the process is found and ended as a leftover of the pod.
    Raises VMStartError when QEMU cannot be started at all.
    """
    argv = [
        *(str(binary), "-name", options("", {"guest": pod.id})),
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
            return await _first_sign(pipe)
    except TimeoutError:
        return f"a kernel does not come to life under {accelerator} within {timeout:g} s"
    finally:
        process.kill()
        process.close()


async def _first_sign(pipe: IO[bytes]) -> str:
    """Return "" as soon as the kernel lives; at the end of the output, QEMU's last words. Closes ``pipe``."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), pipe
    )
    said = b""
    try:
        while chunk := await reader.read(65536):
            said = said[-65536:] + chunk
            if any(sign in said for sign in _ALIVE):
                return ""
    finally:
        transport.close()
    words = said.decode(errors="replace").split("\n")
    return f"QEMU gave up: {next((line.strip() for line in reversed(words) if line.strip()), 'without a word')}"


async def _remembered_trial(pod: PodContext, config: QemuConfig, binary: Path, kernel: Path, timeout: float) -> str:
    """Return the outcome of a KVM trial: the one of this boot, QEMU and kernel if there was one, else of a new one."""
    key = f"{_version(binary)} {_version(kernel)} {config.machine} {config.cpu}"
    cache, this_boot = pod.run_dir.parent / "acceleration.json", boot_id()
    outcomes = _read(cache, this_boot)
    if key not in outcomes:
        outcomes[key] = await trial(pod, config, binary, kernel, "kvm", min(timeout, TRIAL_TIMEOUT))
        if not outcomes[key] or timeout >= TRIAL_TIMEOUT:  # no lasting verdict for want of time
            _write(cache, this_boot, outcomes)
    return outcomes[key]


def _version(path: Path) -> str:
    status = path.stat()
    return f"{path.resolve()}:{status.st_size}:{status.st_mtime_ns}"


def _read(cache: Path, this_boot: str) -> dict[str, str]:
    """Return the remembered outcomes of this boot; none if the file is missing or broken."""
    try:
        known = json.loads(cache.read_bytes())
        if known["boot"] == this_boot:
            return {str(key): str(outcome) for key, outcome in known["outcomes"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        pass
    return {}


def _write(cache: Path, this_boot: str, outcomes: dict[str, str]) -> None:
    """Remember; where that fails, the next start tries again."""
    new = cache.with_name(f"{cache.name}.{os.getpid()}")
    try:
        new.write_text(json.dumps({"boot": this_boot, "outcomes": outcomes}), encoding="utf-8")
        new.replace(cache)
    except OSError:
        with suppress(OSError):
            new.unlink(missing_ok=True)
