"""The user namespace and mount namespace of a plain user's supervisor, in which it may mount.

Root's supervisor is started in a mount namespace of its own. A plain user's enters its namespaces by itself, because
nsenter(1) cannot keep capabilities for a program that does not run as root. Ids are the same inside as outside,
so that programs which treat the user id 0 in another way (apt, tar) work as they do for this user outside.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import struct
import subprocess
from contextlib import suppress
from pathlib import Path

from vc_core.driver.process import ProcessIdentity
from vc_core.errors import PrivilegeError
from vc_core.host import mounts

# linux/sched.h, linux/prctl.h and linux/capability.h.
_CLONE_NEWNS, _CLONE_NEWUSER = 0x20000, 0x10000000
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 47, 2
_CAPABILITY_VERSION_3 = 0x20080522
#: Twice, for 32 capabilities each: effective, permitted, inheritable.
_CAPABILITY_SETS = struct.Struct("6I")

#: The ids that each user may use beside the own (subuid(5), subgid(5)).
_SUBUID, _SUBGID = Path("/etc/subuid"), Path("/etc/subgid")

#: Reads a line, then maps users $2 and groups $3 into the namespace of process $1, as newuidmap(1) takes them.
_WRITE_MAPS = 'read -r go && { newuidmap "$1" $2; newgidmap "$1" $3; }'
#: Seconds for that.
_MAP_TIMEOUT = 10.0

_libc = ctypes.CDLL(None, use_errno=True)


def enter(vm: ProcessIdentity | None) -> None:
    """Enter the user namespace and the mount namespace of a pod's VM, or new ones where it has no VM.

    Called by the supervisor of a plain user while it has one thread. Programs that it runs have all capabilities there,
    too. Raises PrivilegeError.
    """
    try:
        if vm is None or not _entered(vm):
            _make()
        _keep_capabilities()
    except OSError as error:
        raise PrivilegeError(
            f"user {os.geteuid()} cannot have pods, because the kernel refuses a user namespace: {error.strerror}; "
            "allow it (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone and "
            "kernel.apparmor_restrict_unprivileged_userns), or run as root"
        ) from error


def subordinate_ids(file: Path, uid: int) -> tuple[int, int] | None:
    """Return the first id and the number of those that a user may use beside the own, as subuid(5); None for none."""
    import pwd

    names = {str(uid)}
    with suppress(KeyError):
        names.add(pwd.getpwuid(uid).pw_name)
    try:
        lines = file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, numbers = line.partition(":")
        first, _, count = numbers.partition(":")
        if name in names and first.isdecimal() and count.isdecimal() and int(count) > 0:
            return int(first), int(count)
    return None


def _entered(vm: ProcessIdentity) -> bool:
    """Enter the namespaces of a VM; return False if it has ended. Raises OSError."""
    pidfd = vm.open_pidfd()
    if pidfd is None:
        return False
    try:
        _check(_libc.setns(pidfd, _CLONE_NEWUSER | _CLONE_NEWNS))
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)
    return True


def _make() -> None:
    """Enter new namespaces, with the subordinate ids of the user if there are any. Raises OSError."""
    uid, gid = os.geteuid(), os.getegid()
    mapper = _start_mapper(uid, gid)  # before: only a process outside can map more ids than the own
    go = b""
    try:
        _check(_libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS))
        go = b"\n"
    finally:
        if mapper is not None:
            _finish(mapper, go)
    for kind, own in (("uid", uid), ("gid", gid)):
        path = Path(f"/proc/self/{kind}_map")
        if path.read_bytes():
            continue
        if kind == "gid":  # user_namespaces(7): who maps the own group alone must give up setgroups(2) first
            Path("/proc/self/setgroups").write_text("deny", encoding="utf-8")
        path.write_text(f"{own} {own} 1", encoding="utf-8")
    mounts.make_private(Path("/"))


def _start_mapper(uid: int, gid: int) -> subprocess.Popen[bytes] | None:
    """Start a process that maps the subordinate ids into this process' namespace, once it reads a line; None for none.

    Each id is the same inside as outside.
    """
    users, groups = subordinate_ids(_SUBUID, uid), subordinate_ids(_SUBGID, uid)
    if users is None or groups is None or not (shutil.which("newuidmap") and shutil.which("newgidmap")):
        return None
    maps = [f"{own} {own} 1 {first} {first} {count}" for own, (first, count) in ((uid, users), (gid, groups))]
    return subprocess.Popen(
        ["/bin/sh", "-c", _WRITE_MAPS, "sh", str(os.getpid()), *maps],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _finish(mapper: subprocess.Popen[bytes], go: bytes) -> None:
    """Let the mapper map, with a line in ``go``, or end; and wait for its end."""
    try:
        mapper.communicate(go, _MAP_TIMEOUT)
    except subprocess.TimeoutExpired:
        mapper.kill()
        mapper.communicate()


def _keep_capabilities() -> None:
    """Let programs that this process runs have its capabilities (capabilities(7), "Ambient"). Raises OSError."""
    header, sets = struct.pack("Ii", _CAPABILITY_VERSION_3, 0), ctypes.create_string_buffer(_CAPABILITY_SETS.size)
    _check(_libc.capget(header, sets))
    _, low, _, _, high, _ = _CAPABILITY_SETS.unpack(sets.raw)
    _check(_libc.capset(header, _CAPABILITY_SETS.pack(low, low, low, high, high, high)))
    for number in range(64):
        if (high << 32 | low) >> number & 1:
            arguments = (_PR_CAP_AMBIENT_RAISE, number, 0, 0)
            _check(_libc.prctl(_PR_CAP_AMBIENT, *map(ctypes.c_ulong, arguments)))


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
