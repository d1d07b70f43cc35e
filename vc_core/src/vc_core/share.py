"""The directory that a pod shares with its guest: one sub-directory per container, its root file system bound below.

Made in the pod's own mount namespace, so nothing is ever mounted in the host's. It is a shared mount, so that what is
bound there later also appears for a VM that lives in a copy of the namespace.
"""

from __future__ import annotations

from pathlib import Path

from vc_core import _mounts
from vc_core.errors import StorageError


def prepare(share_dir: Path) -> None:
    """Make the directory. Called at a pod's start, in its mount namespace. Raises StorageError."""
    try:
        share_dir.mkdir(mode=0o700, exist_ok=True)
        if not _mounts.mounted_below(share_dir):
            _mounts.bind(share_dir, share_dir, _mounts.MS_NOSUID | _mounts.MS_NODEV)
            _mounts.make_shared(share_dir)
    except OSError as error:
        raise StorageError(f"shared directory {str(share_dir)!r} cannot be made: {error.strerror}") from error


def add_root_fs(share_dir: Path, container_id: str, root_fs: Path) -> str:
    """Bind a container's root file system, read-only, and return its place below the shared directory.

    Called before the container starts. Raises StorageError.
    """
    place = f"{container_id}/rootfs"
    target = share_dir / place
    try:
        if target not in _mounts.mounted_below(share_dir):
            target.mkdir(mode=0o755, parents=True, exist_ok=True)
            _mounts.bind(root_fs, target, _mounts.MS_RDONLY | _mounts.MS_NOSUID | _mounts.MS_NODEV)
    except OSError as error:
        raise StorageError(f"root file system {str(root_fs)!r} cannot be shared: {error.strerror}") from error
    return place


def remove_root_fs(share_dir: Path, container_id: str) -> None:
    """Unbind a container's root file system. Called when the container is deleted. Raises StorageError."""
    _unmount_all(share_dir / container_id)
    for path in (share_dir / container_id / "rootfs", share_dir / container_id):
        if path.is_dir():
            path.rmdir()


def dismantle(share_dir: Path) -> None:
    """Unmount everything. Called when the pod has stopped, after the VM ended. Raises StorageError."""
    _unmount_all(share_dir)


def _unmount_all(path: Path) -> None:
    try:
        for point in _mounts.mounted_below(path):
            _mounts.unmount(point)
    except OSError as error:
        raise StorageError(f"{error.filename!r} cannot be unmounted: {error.strerror}") from error
