"""Decides whether a guest may write to a directory of the host as its root file system.

Such a guest chooses the owners and modes of files of the host. No other user may be able to use them there, so some
directory above must be one that only its owner can enter. A user who had it open before it was closed is not found.
"""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from vc_core.driver.users import host_user
from vc_core.host import mounts, overlays

#: The extended attribute of a list of further users and groups (acl(5)).
_ACL = "system.posix_acl_access"

#: A process in a user namespace of its own, which writes a line, reads one, and ends.
_WAITING = ("unshare", "--user", "sh", "-c", "echo; read -r line")

#: As many ids as a guest has.
_IDS = 65536


def why_not(directory: int, names: Iterable[Path]) -> str:
    """Return why no guest may write to an open directory, which is seen by these names; "" if one may.

    Called when a pod or container is created, and at each start. Raises OSError.
    """
    for name in names:
        if not any(map(_is_closed, name.parents)):
            return (
                f"cannot be written by a guest, because other users of this host can reach {str(name)!r}; put it below "
                "a directory that only you can enter (chmod 700), or leave writable_root_fs out"
            )
    if host_user() == 0 and overlays.is_overlay(directory):
        return (
            "cannot be written by a guest, because it is an overlay, of which the kernel does not translate owners; "
            "copy it to a directory, or leave writable_root_fs out"
        )
    return ""


def _is_closed(directory: Path) -> bool:
    """Return whether nobody but its owner, who is this user or root, and the group of root can enter a directory."""
    try:
        status = directory.lstat()
    except OSError:
        return False
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & stat.S_IXOTH:
        return False
    if not status.st_mode & stat.S_IXGRP:  # nor can the users of an access list: these bits are its mask (acl(5))
        return True
    if status.st_gid != 0 or host_user() != 0:
        return False
    with suppress(OSError):
        return not os.getxattr(directory, _ACL, follow_symlinks=False)
    return True


def why_untranslated(directory: int, name: Path) -> str:
    """Return why a VM of root cannot have an open directory with the owners translated, by trying; "" if it can.

    It takes some milliseconds, so a start does not call it: the jail of the VM tries by itself.
    """
    if host_user() != 0:
        return ""
    try:
        with subprocess.Popen(_WAITING, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            for kind in ("uid", "gid"):
                Path(f"/proc/{process.pid}/{kind}_map").write_text(f"0 0 {_IDS}", encoding="utf-8")
            mounts.try_translation(directory, name, Path(f"/proc/{process.pid}/ns/user"))
    except OSError as error:
        return (
            "cannot be written by a guest, because its file system does not translate owners (idmapped mounts): "
            f"{(error.strerror or '').lower()}"
        )
    return ""
