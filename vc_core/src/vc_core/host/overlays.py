"""Translates the owners of an overlay, as engines mount the root file systems of containers.

The kernel translates the owners of the layers of an overlay, but not those of the overlay itself (Documentation of
overlayfs, "idmapped layers"). So another overlay is made, of the same layers, and read-only: what was its upper layer
becomes the first of those below.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from vc_core.host import mounts

#: Options of an overlay that say how its layers are to be read.
_READING = ("metacopy", "redirect_dir", "userxattr", "xino")

_SAFE = mounts.MS_NOSUID | mounts.MS_NODEV

#: OVERLAYFS_SUPER_MAGIC of linux/magic.h, and the size of struct statfs, whose first field is the type, or more.
_MAGIC, _STATFS_SIZE = 0x794C7630, 256

_libc = ctypes.CDLL(None, use_errno=True)


def is_overlay(source: int) -> bool:
    """Return whether an open directory is on an overlay. Raises OSError."""
    status = ctypes.create_string_buffer(_STATFS_SIZE)
    if _libc.fstatfs(source, status):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return ctypes.c_long.from_buffer(status).value == _MAGIC


def bind(
    attach: Callable[[Path], None],
    name: Path,
    is_directory: bool,
    target: Path,
    flags: int,
    users: Path,
    workplace: Path,
) -> None:
    """Mount a file or directory on an overlay on ``target``, read-only, with owners as :func:`mounts.bind` has them.

    ``attach`` mounts it on a path. ``name``: its own. ``workplace``: a directory of this process alone, in which the
    overlay and its layers are mounted meanwhile. Raises OSError, EINVAL for layers that are not found or cannot be
    translated.
    """
    with ExitStack() as stack:
        mounts.mount_memory(workplace, _SAFE)
        stack.callback(mounts.detach_all, workplace)
        mounts.make_private(workplace)
        overlay = _found(attach, workplace / "found", is_directory)
        layers, options = _layers(overlay, name)
        places = []
        for number, layer in enumerate(layers):
            place = workplace / str(number)
            place.mkdir(mode=0o700)
            with _opened(layer) as fd:
                mounts.bind(fd, place, mounts.MS_RDONLY | _SAFE, users)
            places.append(stack.enter_context(_opened(place)))
        given = [f"lowerdir={':'.join(f'/proc/self/fd/{fd}' for fd in places)}"]
        given += [f"{one}={options[one]}" if options[one] else one for one in _READING if one in options]
        whole = workplace / "whole"
        whole.mkdir(mode=0o700)
        mounts.mount_overlay(whole, mounts.MS_RDONLY | _SAFE, ",".join(given))
        with _opened(whole / overlay.root.relative_to("/")) as fd:
            mounts.bind(fd, target, flags | mounts.MS_RDONLY)


def _found(attach: Callable[[Path], None], place: Path, is_directory: bool) -> mounts.Mount:
    """Return the mount that ``attach`` makes on a new place: what the kernel says of it. Raises OSError."""
    if is_directory:
        place.mkdir(mode=0o700)
    else:
        place.touch(mode=0o600)
    attach(place)
    with _opened(place) as fd:
        found = mounts.mount_of(fd)
    if found is None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(place))
    return found


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _layers(overlay: mounts.Mount, name: Path) -> tuple[list[Path], dict[str, str]]:
    """Return the layers of an overlay, the uppermost first, and its options. Raises OSError for one that is not found.

    A layer that is an overlay itself counts as all of that one's. Engines shorten the options of many layers: a path is
    then relative to the directory that has them all, two above the upper layer or the mount point.
    """
    options = dict(one.partition("=")[::2] for one in overlay.options.split(","))
    upper = options.get("upperdir", "")
    tops = [top for path in (Path(upper), name) if path.is_absolute() for top in path.parents[1:2]]
    found = []
    for layer in filter(None, [upper, *options.get("lowerdir", "").split(":")]):
        candidates = [Path(layer)] if layer.startswith("/") else [top / layer for top in tops]
        path = next((one for one in candidates if one.is_dir()), None)
        if path is None:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), layer)
        with _opened(path) as fd:
            below = mounts.mount_of(fd) if is_overlay(fd) else None
        if below is None or not below.point.samefile(path):
            found.append(path)
        else:
            layers, others = _layers(below, below.point)
            found += layers
            options = {**others, **options}
    return found, options
