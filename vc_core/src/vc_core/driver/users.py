"""Which user of the host a process belongs to, also in a user namespace in which a user has the id 0."""

from __future__ import annotations

import os
from pathlib import Path


def host_user() -> int:
    """Return the id that the host has for this process' user: 0 for root alone.

    A plain user may have the id 0 in a user namespace, as below podman; the result is that user's id nevertheless. Root
    of a system in a container, whose files are its own, is root.
    """
    uid = os.geteuid()
    if uid != 0 or root_owner() == 0:
        return uid
    lines = (line.split() for line in Path("/proc/self/uid_map").read_text(encoding="utf-8").splitlines())
    return next((int(outside) for inside, outside, _ in lines if inside == "0"), uid)


def root_owner() -> int:
    """Return the id that files of the host's root have here.

    That is another one than 0 in a user namespace that does not map root: the id of all users without one there.
    """
    owner = os.stat("/").st_uid  # noqa: PTH116 - a constant, of which each operation asks
    if owner == 0:
        return 0
    overflow = int(Path("/proc/sys/kernel/overflowuid").read_text(encoding="utf-8"))
    return owner if owner == overflow else 0
