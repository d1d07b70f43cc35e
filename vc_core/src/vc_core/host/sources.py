"""Opens what a pod shares with its guest: roots, mounts, volumes and disks.

Each is opened once, when the pod or container starts; what is checked is the open file, and what is bound or given to
the VM is that too. So it does not matter what other users of the host do to its name meanwhile.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from types import TracebackType

from vc_core.config.container import ContainerConfig, Mount
from vc_core.config.pod import PodConfig
from vc_core.driver.devices import Device, SharedDirectory
from vc_core.errors import ConfigError, StorageError
from vc_core.host import closed, disk_use, quota
from vc_core.host.paths import Rules, name_of

#: How file systems begin: offset, first bytes (magic numbers of the kernel's linux/magic.h and fs/xfs, little-endian).
_MAGICS = {
    "squashfs": (0, b"hsqs"),
    "xfs": (0, b"XFSB"),
    "erofs": (1024, b"\xe2\xe1\xf5\xe0"),
    "ext4": (1024 + 56, b"\x53\xef"),
}


#: What a bundle holds, besides which there is nothing in it (config.md of the OCI's runtime specification).
_OF_A_BUNDLE = frozenset(("rootfs", "config.json"))


class Source:
    """An open file, directory or disk of the host, which is closed with this object.

    ``fd`` is only a reference to it (O_PATH, open(2)). ``path``: its name when it was checked. ``fstype``: the type of
    the file system on it, if it is a disk, else "".
    """

    def __init__(self, what: str, given: str, within: int | None = None, follows: bool = True) -> None:
        """Open ``given``, following links unless ``follows`` is false; ``what`` begins all errors about it.

        Raises ConfigError.
        """
        self.what, self.given = what, given
        self.fd, self.path, self.fstype = -1, Path(given), ""
        #: Whether it is a mount without a place, which is attached instead of a copy of it.
        self.is_mount = False
        try:
            flags = os.O_PATH | os.O_CLOEXEC | (0 if follows else os.O_NOFOLLOW)
            self.fd = os.open(given, flags, dir_fd=within)
        except FileNotFoundError as error:
            raise ConfigError(f"{what}: {given!r} does not exist") from error
        except OSError as error:
            raise ConfigError(f"{what}: {given!r} cannot be used: {error.strerror}") from error

    @property
    def mode(self) -> int:
        """Type and mode of the file (inode(7))."""
        return os.fstat(self.fd).st_mode

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.mode)

    @contextmanager
    def reading(self) -> Iterator[int]:
        """Open the file or directory itself, for reading. Raises ConfigError, also for an OSError of the body."""
        try:
            # By the descriptor (proc(5), /proc/PID/fd). O_NONBLOCK: the medium of a drive may be missing.
            fd = os.open(f"/proc/self/fd/{self.fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                yield fd
            finally:
                os.close(fd)
        except OSError as error:
            raise self.refused(f"cannot be read: {error.strerror}") from error

    def refused(self, why: str) -> ConfigError:
        """Return the error that names this source."""
        return ConfigError(f"{self.what}: {self.given!r} {why}")

    def check(self, rules: Rules, read_only: bool) -> None:
        """Refuse what no guest may use. Raises ConfigError."""
        self.path = rules.check(self.what, self.given, self.fd, read_only)

    def close(self) -> None:
        """Close it, if it is open."""
        fd, self.fd = self.fd, -1
        if fd != -1:
            os.close(fd)

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # An operation can be cancelled while a thread opens sources for it.
        with suppress(OSError):
            self.close()


class MountSource(Source):
    """A file or directory as a mount without a place, which another process has opened and checked.

    It belongs to the caller: ``fd`` stays open.
    """

    def __init__(self, what: str, given: str, fd: int) -> None:
        self.what, self.given = what, given
        self.fd, self.path, self.fstype = fd, Path(given), ""
        self.is_mount = True

    def close(self) -> None:
        """Leave it open."""


class ContainerSources:
    """The root and the mounts of a container, in the order of its configuration; None for a mount without a source."""

    def __init__(self, root: Source, mounts: Sequence[Source | None]) -> None:
        self.root, self.mounts = root, mounts

    def close(self) -> None:
        """Close them all."""
        for source in filter(None, (self.root, *self.mounts)):
            source.close()


class PodSources:
    """The root of the pod itself, if it has one, and the sources of its containers, in their order."""

    def __init__(self, root: Source | None, containers: Sequence[ContainerSources]) -> None:
        self.root, self.containers = root, containers

    @property
    def shared(self) -> dict[Path, Path]:
        """The files and directories that will be bound, without the disks: for each name the path of the open file."""
        roots = [*filter(None, [self.root]), *(one.root for one in self.containers if not one.root.fstype)]
        every = [*roots, *(mount for one in self.containers for mount in one.mounts if mount)]
        return {source.path: Path(f"/proc/{os.getpid()}/fd/{source.fd}") for source in every}

    def close(self) -> None:
        """Close them all."""
        if self.root is not None:
            self.root.close()
        for container in self.containers:
            container.close()


def open_pod(config: PodConfig, rules: Rules) -> PodSources:
    """Return the sources of a pod but for its volumes. Called when it is created, and at each start.

    Blocks as long as their file servers do. Raises ConfigError.
    """
    root = None
    if config.root_fs:
        with _of_field("root_fs"):
            root = open_root_directory("rootfs of the pod", config.root_fs, rules)
    containers = []
    for index, container in enumerate(config.containers):
        with _of_field(f"containers[{index}]"):
            containers.append(open_container(container, rules))
    return PodSources(root, containers)


@contextmanager
def _of_field(name: str) -> Iterator[None]:
    """Add to an error in which field of the configuration the refused value is, for errors about pod files."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(str(error), field=".".join(filter(None, (name, error.field)))) from error


def open_container(config: ContainerConfig, rules: Rules, plugged: bool = False) -> ContainerSources:
    """Return the sources of a container. Called when it is created, and at each start.

    ``plugged``: the VM has the container's disk already, if it has one, and keeps it. Raises ConfigError, also for a
    container without a command.
    """
    if not config.cmd.args:
        raise ConfigError(f"container {config.id!r} has no command; give cmd.args", field="cmd")
    with _of_field("image" if config.image else "root_fs"):
        root = _open_root(config, rules, plugged)
    mounts: list[Source | None] = []
    for index, mount in enumerate(config.mounts):
        with _of_field(f"mounts[{index}]"):
            mounts.append(_open_mount(config.id, mount, rules) if mount.type == "bind" else None)
    return ContainerSources(root, mounts)


def of_mounts(config: ContainerConfig, mounts: Sequence[int]) -> ContainerSources:
    """Return the sources of a container from descriptors of mounts without a place: its root's, then its mounts'.

    They were opened and checked in another mount namespace, by a process of this user. Raises ConfigError for another
    number of them.
    """
    wanted = 1 + sum(mount.type == "bind" for mount in config.mounts)
    if len(mounts) != wanted:
        raise ConfigError(f"{len(mounts)} of the {wanted} sources of container {config.id!r} were passed")
    fds = iter(mounts)
    root = next(fds)
    given = config.image or config.root_fs
    what = f"mount of container {config.id!r}"
    return ContainerSources(
        MountSource(f"rootfs of container {config.id!r}", given, root),
        [MountSource(what, mount.source, next(fds)) if mount.type == "bind" else None for mount in config.mounts],
    )


def check_container(config: ContainerConfig, rules: Rules) -> None:
    """Refuse a container with sources that cannot or may not be shared, when it is created. Raises ConfigError."""
    open_container(config, rules).close()


def open_volumes(devices: Iterable[Device], run_dir: Path, rules: Rules) -> list[tuple[SharedDirectory, Source]]:
    """Return those shared directories that are not the pod's own, which are below ``run_dir``, with their sources.

    Called when a pod is created, and at each start. Raises ConfigError.
    """
    found = []
    for device in devices:
        if isinstance(device, SharedDirectory) and not device.host_path.is_relative_to(run_dir):
            with _of_field("volumes"):
                source = Source(f"volume {device.tag!r}", str(device.host_path))
                if not source.is_directory:
                    raise source.refused("is not a directory")
                source.check(rules, device.read_only)
                rules.check_below(source.what, source.given, source.path, device.read_only)
            found.append((device, source))
    return found


def open_root_directory(what: str, text: str, rules: Rules) -> Source:
    """Return the directory ``text``, or ``rootfs`` in it. Raises ConfigError, which begins with ``what``."""
    return _root_in(Source(what, text), rules)


def _root_in(source: Source, rules: Rules) -> Source:
    if not source.is_directory:
        raise source.refused("is not a directory")
    with suppress(ConfigError):
        # No link: in an unpacked image, or where a container has written, it could lead anywhere.
        inner = Source(source.what, "rootfs", within=source.fd, follows=False)
        if inner.is_directory:
            inner.given = str(Path(source.given) / "rootfs")
            source = inner
    source.check(rules, read_only=True)
    _check_filled(source)
    return source


def _writable_root(source: Source, rules: Rules) -> Source:
    """Return a directory that a container may write to; never one in it, which the container could have made."""
    if not source.is_directory:
        raise source.refused("is not a directory")
    source.check(rules, read_only=False)
    try:
        why = closed.why_not(source.fd, rules.names_of(source.fd))
    except OSError as error:
        why = f"cannot be used: {error.strerror}"
    if why:
        raise source.refused(why)
    _check_filled(source)
    with source.reading() as fd, os.scandir(fd) as entries:
        names = {entry.name for entry in islice(entries, len(_OF_A_BUNDLE) + 1)}
    if "rootfs" in names and names <= _OF_A_BUNDLE:
        raise source.refused("is a bundle, and only the root itself can be written to; name its directory rootfs")
    return source


def check_writable_root(text: str, rules: Rules) -> None:
    """Refuse a directory that no container can have as a root that it writes to. Blocks. Raises ConfigError."""
    with Source("root file system", text) as source:
        _writable_root(source, rules)
        if why := closed.why_untranslated(source.fd, source.path):
            raise source.refused(why)


def _check_filled(source: Source) -> None:
    with source.reading() as fd, os.scandir(fd) as entries:
        if next(entries, None) is None:
            raise source.refused("is empty; unpack a root file system there")


def _open_root(config: ContainerConfig, rules: Rules, plugged: bool) -> Source:
    """Return the root of a container: a directory, or a disk with a file system that guests can mount."""
    if config.image:
        return _open_image(config, rules)
    what, writes = f"rootfs of container {config.id!r}", config.writable_root_fs
    if not config.root_fs:
        raise ConfigError(f"{what} is not given; name a directory that holds a root file system, or an image")
    source = Source(what, config.root_fs)
    if not (stat.S_ISREG(source.mode) or stat.S_ISBLK(source.mode)):
        return _writable_root(source, rules) if writes else _root_in(source, rules)
    source.check(rules, read_only=not writes)
    source.fstype = _file_system(source)
    if writes and not plugged and (why := disk_use.found(source.fd)):
        raise source.refused(f"cannot be written by a guest, because this host uses it: {why}")
    return source


def _open_image(config: ContainerConfig, rules: Rules) -> Source:
    """Return the root of a container that is made of an image, below the state root, where no other root can be."""
    from vc_core.config.image import ImageReference
    from vc_core.store.images import Images

    what, digest = f"image of container {config.id!r}", ImageReference.parse(config.image).digest
    try:
        source = Source(what, str(Images(rules.roots).root(digest)))
    except (ConfigError, StorageError):
        raise ConfigError(
            f"{what}: {config.image!r} is not on this host any more; 'virtc image pull' fetches it"
        ) from None
    with source.reading() as fd, os.scandir(fd) as entries:
        if next(entries, None) is None:
            raise source.refused(f"is empty: {config.image!r} has no files")
    source.path = name_of(source.fd) or source.path
    return source


def _open_mount(container_id: str, mount: Mount, rules: Rules) -> Source:
    source = Source(f"mount of container {container_id!r}", mount.source)
    if not (source.is_directory or stat.S_ISREG(source.mode)):
        raise source.refused("is neither a file nor a directory")
    source.check(rules, mount.read_only)
    if mount.size and not source.is_directory:
        raise source.refused("is a file, and only directories can have a size limit; leave the size out")
    if mount.size and (why := quota.missing(source.fd)):
        raise source.refused(why)
    return source


def _file_system(source: Source) -> str:
    with source.reading() as fd:
        head = os.read(fd, max(offset + len(magic) for offset, magic in _MAGICS.values()))
    for fstype, (offset, magic) in _MAGICS.items():
        if head[offset : offset + len(magic)] == magic:
            return fstype
    raise source.refused(f"is neither a directory nor a disk with {', '.join(sorted(_MAGICS))} on it")
