"""Looks for the program of a container in its root, before the container is created.

Engines take the exit codes 127 and 126 from the words of the error, and only from that of ``create``. The guest looks
again when it starts the program.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from vc_runtime.faults import RuntimeFault

#: As many links as the kernel follows (path_resolution(7)).
_LINKS_MAX = 40

#: Where a command without PATH is looked for, as the agent does.
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def check(root: Path, args: Sequence[str], env: Sequence[str], cwd: str, mounts: Sequence[str]) -> None:
    """Raise RuntimeFault unless the program ``args[0]`` is in the root and can be executed.

    ``mounts``: paths in the container that are mounted; what is below one is not looked for.
    """
    name = args[0]
    if "/" in name:
        candidates = [os.path.join(cwd, name)]  # noqa: PTH118 - of the container, as text
    else:
        path = next((one.partition("=")[2] for one in env if one.startswith("PATH=")), _DEFAULT_PATH)
        candidates = [os.path.join(folder or cwd, name) for folder in path.split(":")]  # noqa: PTH118
    refused = False
    for candidate in candidates:
        mode = _mode(root, candidate, mounts)
        if mode is None:
            continue
        if stat.S_ISREG(mode) and mode & 0o111:
            return
        refused = True
    if refused:
        raise RuntimeFault(f'exec: "{name}": permission denied')
    if "/" in name:
        raise RuntimeFault(f'exec: "{name}": stat {candidates[0]}: no such file or directory')
    raise RuntimeFault(f'exec: "{name}": executable file not found in $PATH')


def _mode(root: Path, path: str, mounts: Sequence[str]) -> int | None:
    """Return the mode of a file in the root, of which links are followed as in a chroot; None for no such file.

    A file below a mount counts as an executable one.
    """
    todo = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    at: list[str] = []
    links = 0
    while todo:
        part = todo.pop()
        if part == "..":
            at = at[:-1]
            continue
        at.append(part)
        inside = "/" + "/".join(at)
        if inside in mounts:
            return stat.S_IFREG | 0o755
        here = root.joinpath(*at)
        try:
            mode = here.lstat().st_mode
        except OSError:
            if any(one.startswith(inside + "/") for one in mounts):
                continue  # the guest makes the directory of a mount
            return None
        if stat.S_ISLNK(mode):
            links += 1
            if links > _LINKS_MAX:
                return None
            target = str(here.readlink())
            at = [] if target.startswith("/") else at[:-1]
            todo += [part for part in reversed(target.split("/")) if part not in ("", ".")]
        elif not todo:
            return mode
    return stat.S_IFDIR | 0o755
