"""Checks what the core itself needs of this host, whatever the drivers: one function for each line of a report."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from vc_core.errors import ConfigError, StorageError
from vc_core.host_report import CheckOutcome, HostCheck
from vc_core.store.roots import CACHE_VARIABLE, ROOT_VARIABLE, Roots, guests_below, require_private
from vc_core.store.settings import SettingsFiles

#: Programs that start a supervisor, and the argument with which each does nothing; all are of Debian's util-linux.
_PROGRAMS = ("setsid", "unshare", "nsenter", "setpriv")

#: Seconds for a program that only makes a namespace.
_TIMEOUT = 5.0

_NAMESPACES_MAX = Path("/proc/sys/user/max_user_namespaces")
_OWN_GROUPS = Path("/proc/self/cgroup")


def check_host(roots: Roots) -> list[HostCheck]:
    """Return the lines of the host. Called by the client; blocks for the programs that it starts. Changes nothing."""
    checks: tuple[Callable[[Roots], Iterator[HostCheck]], ...] = (
        _configuration,
        _directories,
        _programs,
        _mount_namespaces,
        _user_namespaces,
        _control_groups,
    )
    return [one for check in checks for one in check(roots)]


def _configuration(roots: Roots) -> Iterator[HostCheck]:
    name = "configuration"
    try:
        found = SettingsFiles.read(roots.environment)
    except ConfigError as error:
        yield HostCheck(
            name=name,
            outcome=CheckOutcome.ERROR,
            found="not valid",
            meaning="No pod is created, and none starts whose caller does not choose whether it is strict.",
            remedy=str(error),
        )
        return
    files = ", ".join(one.name for one in found.documents) or "no file"
    strict = found.settings.pod.strict
    yield HostCheck(
        name=name,
        outcome=CheckOutcome.OK,
        found=f"{files}; strict = {'true' if strict else 'false'}; templates of {found.settings.templates.size} MiB",
        meaning="Pods start only in a full jail, unless their callers choose otherwise."
        if strict
        else "Pods start in the best jail that this host can give, unless their callers ask for a full one.",
    )


def _directories(roots: Roots) -> Iterator[HostCheck]:
    places = (
        ("state directory", roots.state, ROOT_VARIABLE, "It holds the records and logs of pods"),
        ("run directory", roots.run, ROOT_VARIABLE, "It holds the sockets of running pods"),
        ("cache directory", roots.cache, CACHE_VARIABLE, "It holds the kernels that pods boot"),
    )
    for name, path, variable, holds in places:
        yield _directory(name, path, variable, holds)
    guests = guests_below(roots.cache)
    if os.path.lexists(guests):  # no error for a cache that this user cannot enter, which has a line already
        yield _directory("guests directory", guests, CACHE_VARIABLE, "It holds the kernels that pods boot")


def _directory(name: str, path: Path, variable: str, holds: str) -> HostCheck:
    try:
        status = path.lstat()
        require_private(path, status, variable)
    except (FileNotFoundError, NotADirectoryError):
        return _absent(name, path, variable, holds)
    except OSError as error:
        return HostCheck(
            name=name,
            outcome=CheckOutcome.ERROR,
            found=f"{path}: {error.strerror}",
            meaning=f"{holds}; without it no pod starts.",
            remedy=f"set {variable} to a directory of yours",
        )
    except StorageError as error:
        return HostCheck(
            name=name,
            outcome=CheckOutcome.ERROR,
            found=str(path),
            meaning=f"{holds}; a user who can write there controls them, so no pod starts.",
            remedy=str(error),
        )
    mode = status.st_mode & 0o7777
    if mode & 0o077:
        return HostCheck(
            name=name,
            outcome=CheckOutcome.WARNING,
            found=f"{path}, mode {mode:04o}",
            meaning=f"{holds}; other users can list it.",
            remedy=f"run: chmod 700 {path}",
        )
    return HostCheck(
        name=name,
        outcome=CheckOutcome.OK,
        found=f"{path}, mode {mode:04o}",
        meaning=f"{holds}; only its owner can enter it.",
    )


def _absent(name: str, path: Path, variable: str, holds: str) -> HostCheck:
    """Return the line of a directory that does not exist, which is made at its first use if its parent allows that."""
    parent = next(one for one in path.parents if Path(one).exists())
    if parent.is_dir() and os.access(parent, os.W_OK | os.X_OK):
        return HostCheck(
            name=name,
            outcome=CheckOutcome.OK,
            found=f"{path}, not there yet",
            meaning=f"{holds}; it is made with mode 0700 when it is needed.",
        )
    return HostCheck(
        name=name,
        outcome=CheckOutcome.ERROR,
        found=f"{path}, not there",
        meaning=f"{holds}; it cannot be made, because {parent} is not a directory that this user can write to.",
        remedy=f"make it, with mode 0700, or set {variable} to a directory of yours",
    )


def _programs(_: Roots) -> Iterator[HostCheck]:
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    if missing:
        yield HostCheck(
            name="programs",
            outcome=CheckOutcome.ERROR,
            found=f"no {', '.join(missing)}",
            meaning="Supervisors are started by these programs.",
            remedy="install util-linux; on Debian: apt install util-linux",
        )
    else:
        yield HostCheck(
            name="programs",
            outcome=CheckOutcome.OK,
            found=", ".join(_PROGRAMS),
            meaning="Supervisors are started by these programs.",
        )


def _mount_namespaces(_: Roots) -> Iterator[HostCheck]:
    name, why = "mount namespaces", "Each pod has one, in which its directories are bound; the host's is not changed."
    if _is_root():
        as_user, remedy = [], "run it as root, with the capability CAP_SYS_ADMIN"
    else:
        as_user, remedy = ["--user", "--map-current-user"], "let this user make user namespaces, or run it as root"
    if problem := _problem_of("unshare", *as_user, "--mount", "--propagation", "private"):
        yield HostCheck(name=name, outcome=CheckOutcome.ERROR, found=problem, meaning=why, remedy=remedy)
    else:
        yield HostCheck(name=name, outcome=CheckOutcome.OK, found="can be made", meaning=why)


def _user_namespaces(_: Roots) -> Iterator[HostCheck]:
    name, why = "user namespaces", "In one of its own a hypervisor is no user of the host."
    try:
        limit = _NAMESPACES_MAX.read_text(encoding="utf-8").strip()
    except OSError:
        limit = "none: the kernel has none"
    if problem := _problem_of("unshare", "--user"):
        yield HostCheck(
            name=name,
            outcome=CheckOutcome.WARNING if _is_root() else CheckOutcome.ERROR,
            found=f"{problem}; at most {limit}",
            meaning="A hypervisor has a user of the host: a guest that breaks out of it is that user."
            if _is_root()
            else "A plain user can mount nothing without one, so no pod starts.",
            remedy="run: sysctl user.max_user_namespaces=10000; on Debian also: sysctl "
            "kernel.unprivileged_userns_clone=1, on Ubuntu: sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        )
    else:
        yield HostCheck(name=name, outcome=CheckOutcome.OK, found=f"can be made; at most {limit}", meaning=why)


def _control_groups(_: Roots) -> Iterator[HostCheck]:
    try:
        lines = _OWN_GROUPS.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        lines = []
    # cgroups(7), /proc/PID/cgroup: "0::/path" is of version 2, "4:memory:/path" of a hierarchy of version 1.
    groups = [found.groups() for line in lines if (found := re.match(r"(\d+):([^:]*):", line))]
    unified = any(number == "0" for number, _ in groups)
    controllers = sorted({one for _, names in groups for one in names.split(",") if one and "=" not in one})
    versions = ["1"] * bool(controllers) + ["2"] * unified
    if versions:
        yield HostCheck(
            name="control groups",
            outcome=CheckOutcome.OK,
            found=f"version {' and '.join(versions)}"
            + (f" (version 1: {', '.join(controllers)})" if controllers else ""),
            meaning="Drivers can limit what the process of a VM uses, with either version.",
        )
    else:
        yield HostCheck(
            name="control groups",
            outcome=CheckOutcome.WARNING,
            found="none",
            meaning="Nothing limits the memory that the process of a VM uses.",
            remedy="mount them: mount -t cgroup2 none /sys/fs/cgroup",
        )


def _is_root() -> bool:
    return os.geteuid() == 0


def _problem_of(*command: str) -> str:
    """Return why a program of util-linux cannot make a namespace, "" if it can."""
    try:
        done = subprocess.run(
            [*command, "--", "true"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_TIMEOUT,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{command[0]} cannot be run: {error}"
    if done.returncode == 0:
        return ""
    return done.stderr.strip().rpartition("\n")[2] or f"{command[0]} ends with status {done.returncode}"
