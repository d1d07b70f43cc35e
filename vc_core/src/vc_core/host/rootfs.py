"""Resolves the path that a caller gives as a container's root: a directory, or a disk with a file system on it."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

from vc_core.config.container import ContainerConfig
from vc_core.errors import ConfigError

#: How file systems begin: offset, first bytes (magic numbers of the kernel's linux/magic.h and fs/xfs, little-endian).
_MAGICS = {
    "squashfs": (0, b"hsqs"),
    "xfs": (0, b"XFSB"),
    "erofs": (1024, b"\xe2\xe1\xf5\xe0"),
    "ext4": (1024 + 56, b"\x53\xef"),
}


@dataclass(frozen=True, slots=True)
class RootFs:
    """Where a root is on the host; ``fstype`` is "" for a directory, else the type of the disk's file system."""

    path: Path
    fstype: str = ""


def resolve(container: ContainerConfig) -> RootFs:
    """Return a container's root: ``root_fs/rootfs`` if that is a directory, else ``root_fs``.

    Called when a container is created and again when it starts. Raises ConfigError for one that is missing, not given,
    empty, or a disk without a file system that guests can mount.
    """
    what = f"rootfs of container {container.id!r}"
    if not container.root_fs:
        raise ConfigError(f"{what} is not given; name a directory that holds a root file system")
    given = Path(container.root_fs)
    try:
        mode = given.stat().st_mode if given.exists() else 0
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            if container.writable_root_fs:
                raise ConfigError(
                    f"{what}: {str(given)!r} is no disk, and writable_root_fs is for disks only; leave it out, "
                    "or mount a directory for what must last"
                )
            return RootFs(resolve_directory(what, container.root_fs))
        path = given.resolve(strict=True)
        return RootFs(path, _file_system(what, path))
    except OSError as error:
        raise ConfigError(f"{what}: {str(given)!r} cannot be read: {error.strerror}") from error


def resolve_directory(what: str, text: str) -> Path:
    """Return the directory ``text``, or ``rootfs`` in it. Raises ConfigError, which begins with ``what``."""
    given = Path(text)
    try:
        path = given / "rootfs" if (given / "rootfs").is_dir() else given
        if not path.exists():
            raise ConfigError(f"{what}: {str(given)!r} does not exist")
        if not path.is_dir():
            raise ConfigError(f"{what}: {str(given)!r} is not a directory")
        if next(path.iterdir(), None) is None:
            raise ConfigError(f"{what}: {str(path)!r} is empty; unpack a root file system there")
    except OSError as error:
        raise ConfigError(f"{what}: {str(given)!r} cannot be read: {error.strerror}") from error
    return path.resolve()


def _file_system(what: str, disk: Path) -> str:
    with disk.open("rb") as file:
        head = file.read(max(offset + len(magic) for offset, magic in _MAGICS.values()))
    for fstype, (offset, magic) in _MAGICS.items():
        if head[offset : offset + len(magic)] == magic:
            return fstype
    raise ConfigError(
        f"{what}: {str(disk)!r} is neither a directory nor a disk with {', '.join(sorted(_MAGICS))} on it"
    )
