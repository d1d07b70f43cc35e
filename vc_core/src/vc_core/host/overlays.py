"""Translates the owners of an overlay, as engines mount the root file systems of containers.

The kernel translates the owners of the layers of an overlay, but not those of the overlay itself (Documentation of
overlayfs, "idmapped layers"). So another overlay is made, of the same layers, and read-only: what was its upper layer
becomes the first of those below.
"""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack
from pathlib import Path

from vc_core.host import mounts

#: Options of an overlay that say how its layers are to be read.
_READING = ("metacopy", "redirect_dir", "userxattr", "xino")


def is_overlay(source: int) -> bool:
    """Return whether an open directory is the root of an overlay that is mounted here. Raises OSError."""
    found = mounts.mount_of(source)
    return found is not None and found.fstype == "overlay" and found.point == Path(f"/proc/self/fd/{source}").readlink()


def bind(source: int, target: Path, flags: int, users: Path, workplace: Path) -> None:
    """Mount the files of an overlay on ``target``, read-only, with owners as :func:`mounts.bind` translates them.

    ``source``: its root. ``workplace``: a directory of this process alone, in which layers are mounted meanwhile.
    Raises OSError, EINVAL for layers that are not found or cannot be translated.
    """
    overlay = mounts.mount_of(source)
    if overlay is None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(target))
    options = _options(overlay.options)
    layers = _layers(overlay, options)
    with ExitStack() as stack:
        places = []
        mounts.mount_memory(workplace, mounts.MS_NOSUID | mounts.MS_NODEV)
        stack.callback(mounts.detach_all, workplace)
        mounts.make_private(workplace)
        for number, layer in enumerate(layers):
            place = workplace / str(number)
            place.mkdir(mode=0o700)
            fd = os.open(layer, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                mounts.bind(fd, place, mounts.MS_RDONLY | mounts.MS_NOSUID | mounts.MS_NODEV, users)
            finally:
                os.close(fd)
            places.append(os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
            stack.callback(os.close, places[-1])
        given = [f"lowerdir={':'.join(f'/proc/self/fd/{fd}' for fd in places)}"]
        given += [f"{name}={options[name]}" if options[name] else name for name in _READING if name in options]
        mounts.mount_overlay(target, flags | mounts.MS_RDONLY, ",".join(given))


def _options(text: str) -> dict[str, str]:
    return dict(one.partition("=")[::2] for one in text.split(","))


def _layers(overlay: mounts.Mount, options: dict[str, str]) -> list[Path]:
    """Return the layers of an overlay, the uppermost first. Raises OSError for one that is not found.

    Engines shorten the options of many layers: a path is then relative to the directory that has them all, which is
    that of the upper layer or of the mount point.
    """
    upper = options.get("upperdir", "")
    names = [*filter(None, [upper]), *filter(None, options.get("lowerdir", "").split(":"))]
    found = []
    for name in names:
        tops = [Path("/")] if name.startswith("/") else [*Path(upper).parents[1:2], *overlay.point.parents[1:2]]
        layer = next((top / name for top in tops if top.is_absolute() and (top / name).is_dir()), None)
        if layer is None:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), name)
        found.append(layer)
    return found
