"""Tries the parts of the jail on this host, for ``virtc check``: with the launcher and programs that do no harm."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from pathlib import Path

from vc_core.driver import VMProcess, frozen
from vc_core.errors import HypervisorError
from vc_hypervisor_qemu.jail import launcher
from vc_hypervisor_qemu.jail.launcher import Jailed, Level, Order
from vc_hypervisor_qemu.jail.places import View, view_without_pod

#: landlock_create_ruleset(2): its number is the same on all architectures; the flag that asks for the version.
_CREATE_RULESET, _VERSION = 444, 1

#: Seconds for the launcher to build a jail around a program.
_TIMEOUT = 5.0


@frozen
class Workplace:
    """Where the tried programs run: the directory, and a UUID that they have as an argument."""

    directory: Path
    uuid: str
    output: int  #: descriptor for what they print


async def start(argv: Sequence[str], view: View, inherited: Sequence[int], place: Workplace) -> Jailed:
    """Start a program in the best jail that can be built; the result has what a full one lacks.

    Raises HypervisorError when it cannot be started in any.
    """
    levels, lacks = launcher.levels_here()
    missing = list(lacks)
    for level in levels:
        try:
            jailed = await launcher.start(Order(argv, view, inherited), level, place.directory, place.output, _TIMEOUT)
        except HypervisorError as error:
            missing.append(str(error))
            continue
        return Jailed(jailed.pid, jailed.pidfd, jailed.qemu, jailed.level, (*missing, *jailed.missing))
    raise HypervisorError("; ".join(dict.fromkeys(missing)))


async def untranslatable(binary: Path, directories: Iterable[Path], place: Workplace) -> dict[Path, str]:
    """Return, of directories, those whose file systems cannot translate owners in a full jail, each with the reason.

    ``binary``: a program that ends at once with ``--version``.
    """
    problems = {}
    for directory in directories:
        order = Order([str(binary), "--version", "-uuid", place.uuid], view_without_pod(binary, [directory]), ())
        try:
            jailed = await launcher.start(order, Level.FULL, place.directory, place.output, _TIMEOUT)
        except HypervisorError as error:
            problems[directory] = str(error)
        else:
            end(jailed)
    return problems


def end(jailed: Jailed) -> None:
    """End a program that was started, and wait until it has ended."""
    process = VMProcess(jailed.pidfd)
    process.kill()
    process.close()


def landlock_version() -> int:
    """Return the version of Landlock's interface that the kernel has, 0 if it has none or it is not switched on."""
    libc = ctypes.CDLL(None, use_errno=True)
    return max(0, int(libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))))


def filesystems(directories: Iterable[Path]) -> list[Path]:
    """Return one directory for each file system among ``directories``, for those that do not exist their parents."""
    found: dict[int, Path] = {}
    for directory in directories:
        existing = next(one for one in (directory, *directory.parents) if Path(one).exists())
        found.setdefault(existing.stat().st_dev, existing)
    return list(found.values())
