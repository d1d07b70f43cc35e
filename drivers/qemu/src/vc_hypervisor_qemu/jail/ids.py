"""Ranges of user and group ids of this host, of which each running VM has one for itself.

Files that QEMU makes keep the owners that the host expects, because mounts translate them; so a range is only held, not
assigned: when a VM has ended, the next one can have its range.
"""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path

from vc_core.errors import VMStartError

#: The first id of the first range, the ids of each, and how many there are: of the ids that systemd leaves unused
#: (https://systemd.io/UIDS-GIDS/: 1879048192 to 2147352575), so no container manager or user database has them.
FIRST, SIZE, COUNT = 1_879_048_192, 65_536, 4_094

#: The file whose bytes stand for the ranges. All supervisors of the host, whatever their state roots, lock bytes of it.
LOCKS = Path("/run/virtcontainers-ids")

#: struct flock (fcntl(2)): l_type, l_whence, l_start, l_len, l_pid.
_FLOCK = struct.Struct("hhqqi4x")


def hold(locks: Path = LOCKS) -> tuple[int, int]:
    """Return the first id of a range that no other running VM has, and a descriptor that holds it.

    The range is free again when every process that has the descriptor has ended or closed it. Raises VMStartError.
    """
    try:
        fd = os.open(locks, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
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
