"""The user and group ids of this host that QEMU has in its jail.

As root each running VM has a range for itself. Files that QEMU makes keep the owners that the host expects, because
mounts translate them; so a range is only held, not assigned: when a VM has ended, the next one can have its range.

Only root can give it such a range. A plain user's QEMU has the ids of the user, and those subordinate to it.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Sequence
from pathlib import Path

from vc_core.driver import frozen, open_regular
from vc_core.errors import VMStartError

#: The first id of the first range, the ids of each, and how many there are: of the ids that systemd leaves unused
#: (https://systemd.io/UIDS-GIDS/: 1879048192 to 2147352575), so no container manager or user database has them.
FIRST, SIZE, COUNT = 1_879_048_192, 65_536, 4_094

#: The file whose bytes stand for the ranges. All supervisors of the host, whatever their state roots, lock bytes of it.
LOCKS = Path("/run/virtcontainers-ids")

#: struct flock (fcntl(2)): l_type, l_whence, l_start, l_len, l_pid.
_FLOCK = struct.Struct("hhqqi4x")

#: The maps of this process' user namespace (user_namespaces(7)): the first id inside, the first one outside, how many.
_USERS, _GROUPS = Path("/proc/self/uid_map"), Path("/proc/self/gid_map")


@frozen
class Maps:
    """The maps of QEMU's user namespace, as user_namespaces(7) has them: root of the guest is the first id."""

    users: str
    groups: str


def has_ranges() -> bool:
    """Return whether this process can give a range of its own to a VM: whether it is root, of the host itself."""
    inside, outside, count = _read(_USERS)[0]
    return os.geteuid() == 0 and inside == outside == 0 and count >= FIRST + COUNT * SIZE


def maps_of_range(first: int) -> Maps:
    """Return the maps for a VM that has the range which begins at ``first``."""
    return Maps(*[f"0 {first} {SIZE}\n"] * 2)


def maps_of_user(users: Path = _USERS, groups: Path = _GROUPS) -> Maps:
    """Return the maps for a VM whose QEMU has the ids of this process: the own one, then the others, in their order.

    A supervisor of a plain user has the subordinate ids of that user beside the own one. ``users`` and ``groups``: the
    maps of this process' user namespace.
    """
    return Maps(_own_first(os.geteuid(), _read(users)), _own_first(os.getegid(), _read(groups)))


def hold(locks: Path = LOCKS) -> tuple[int, int]:
    """Return the first id of a range that no other running VM has, and a descriptor that holds it.

    The range is free again when every process that has the descriptor has ended or closed it. Raises VMStartError.
    """
    try:
        fd = open_regular(locks, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise VMStartError(f"the ranges of user ids, {str(locks)!r}, cannot be opened: {error.strerror}") from error
    for number in range(COUNT):
        try:
            # Of the open file, not of this process (fcntl(2), "Open file description locks"): the launcher inherits it.
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, number, 1, 0))
        except BlockingIOError:
            continue
        except OSError as error:
            os.close(fd)
            raise VMStartError(f"a range of user ids cannot be locked in {str(locks)!r}: {error.strerror}") from error
        return FIRST + number * SIZE, fd
    os.close(fd)
    raise VMStartError(f"all {COUNT} ranges of user ids are in use by running pods; stop one")


def _own_first(own: int, ranges: Sequence[tuple[int, int, int]]) -> str:
    """Return a map that begins with the id ``own``; the other ids of a namespace follow, as many as a range has."""
    lines, at = [f"0 {own} 1\n"], 1
    for inside, _, count in ranges:
        for first, end in ((inside, min(own, inside + count)), (max(own + 1, inside), inside + count)):
            if (number := min(end - first, SIZE - at)) > 0:
                lines.append(f"{at} {first} {number}\n")
                at += number
    return "".join(lines)


def _read(path: Path) -> list[tuple[int, int, int]]:
    lines = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    return [(int(inside), int(outside), int(count)) for inside, outside, count in lines]
