"""Decides which files of the host may be shared with a guest, before a pod or container is stored."""

from __future__ import annotations

from pathlib import Path

from vc_core.config.container import ContainerConfig
from vc_core.config.pod import PodConfig
from vc_core.errors import ConfigError
from vc_core.host import rootfs
from vc_core.host.rootfs import RootFs
from vc_core.store.roots import Roots

#: Where kernel interfaces are mounted: they are no files, and a guest that reaches them is not confined.
_NEVER = tuple(map(Path, ("/proc", "/sys", "/dev")))

#: Directories that this host itself runs on: a guest may read there if a caller asks for it, but never write.
_NOT_WRITABLE = tuple(map(Path, ("/boot", "/etc", "/run", "/usr", "/var/run")))


def check_pod(config: PodConfig, roots: Roots) -> list[RootFs]:
    """Refuse a pod with paths that cannot or may not be shared, and return the roots of its containers, in order.

    Called before the pod is stored; each start resolves the roots again, because they may change. Raises ConfigError.
    """
    if config.root_fs:
        rootfs.resolve_directory("rootfs of the pod", config.root_fs)
    found = [check_container(container, roots) for container in config.containers]
    for volume in config.volumes:
        what = f"volume {volume.mount_tag!r}"
        if not Path(volume.host_path).is_dir():
            raise ConfigError(f"{what}: {volume.host_path!r} is not a directory")
        _check(what, volume.host_path, volume.read_only, roots)
    return found


def check_container(config: ContainerConfig, roots: Roots) -> RootFs:
    """Refuse a container without a command or root, or with mounts that may not be, and return its root.

    Raises ConfigError.
    """
    if not config.cmd.args:
        raise ConfigError(f"container {config.id!r} has no command; give cmd.args")
    root = rootfs.resolve(config)
    for mount in config.mounts:
        _check(f"mount of container {config.id!r}", mount.source, mount.read_only, roots)
    return root


def _check(what: str, source: str, read_only: bool, roots: Roots) -> None:
    """Refuse a source that no guest may use; links are followed first, so they hide nothing. Raises ConfigError."""
    try:
        path = Path(source).resolve(strict=True)
    except OSError as error:
        raise ConfigError(f"{what}: {source!r} cannot be used: {error.strerror}") from error
    if not (path.is_dir() or path.is_file()):
        raise ConfigError(f"{what}: {source!r} is neither a file nor a directory")
    forbidden = [*_NEVER, roots.state, roots.run, *(() if read_only else _NOT_WRITABLE)]
    for place in forbidden:
        if path.is_relative_to(place) or place.is_relative_to(path):
            access = "shown to" if read_only else "written by"
            raise ConfigError(f"{what}: {source!r} holds or lies in {str(place)!r}, which is never {access} a guest")
