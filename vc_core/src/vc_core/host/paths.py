"""Decides which files of the host may be shared with a guest."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from vc_core.errors import ConfigError
from vc_core.frozen import frozen
from vc_core.host import mounts
from vc_core.host.mounts import Mount
from vc_core.store import files
from vc_core.store.roots import Roots

#: Where kernel interfaces are mounted: they are no files, and a guest that reaches them is not confined.
_NEVER = tuple(map(Path, ("/proc", "/sys", "/dev")))

#: Types of file systems that are interfaces of the kernel, wherever they are mounted (/proc/filesystems, "nodev").
_INTERFACES = frozenset(
    (
        *("proc", "sysfs", "devtmpfs", "devpts", "cgroup", "cgroup2", "cpuset", "resctrl", "debugfs", "tracefs", "bpf"),
        *("securityfs", "selinuxfs", "configfs", "functionfs", "efivarfs", "pstore", "mqueue", "binfmt_misc"),
        *("fusectl", "rpc_pipefs", "nfsd", "nsfs"),
    )
)

#: Directories that this host itself runs on: a guest may read there if a caller asks for it, but never write.
_NOT_WRITABLE = tuple(map(Path, ("/boot", "/etc", "/run", "/usr", "/var/run")))


@frozen
class _Place:
    """A file or directory of the host: its name, and its device and path there, which all bind mounts share."""

    name: Path
    device: str = ""
    path: Path = Path()

    def meets(self, other: _Place) -> bool:
        """Return whether one of the two is the other, or lies in it."""
        same_device = self.device != "" and self.device == other.device
        return _nested(self.name, other.name) or (same_device and _nested(self.path, other.path))


class Rules:
    """What this host shows to no guest, and what it lets none write to. Made for each operation: mounts change."""

    def __init__(self, roots: Roots) -> None:
        """Find the places that are forbidden; ``roots`` are among them. Raises ConfigError."""
        self.roots = roots
        try:
            self._mounts = {mount.id: mount for mount in mounts.table()}
        except OSError as error:
            raise ConfigError(f"the mounts of this host cannot be listed: {error.strerror}") from error
        self._never = list(map(self._existing, (*_NEVER, roots.state, roots.run, roots.cache)))
        self._not_writable = list(map(self._existing, _NOT_WRITABLE))

    def check(self, what: str, given: str, fd: int, read_only: bool) -> Path:
        """Refuse an open file or directory that no guest may use, and return its name without links.

        ``what`` and ``given`` are what it is for and what the caller called it. Block devices may be in /dev. Raises
        ConfigError.
        """
        name = name_of(fd)
        if name is None:
            raise ConfigError(f"{what}: {given!r} was removed while it was opened")
        if stat.S_ISBLK(os.fstat(fd).st_mode):
            return name
        mount = self._mounts.get(files.mount_id(fd))
        if mount is None:
            raise ConfigError(f"{what}: {given!r} was mounted or unmounted while it was opened; try again")
        access = "shown to" if read_only else "written by"
        if mount.fstype in _INTERFACES:
            raise ConfigError(
                f"{what}: {given!r} is an interface of the kernel ({mount.fstype}), never {access} a guest"
            )
        if (forbidden := self._forbidden(_located(name, mount), read_only)) is not None:
            raise ConfigError(f"{what}: {given!r} holds or lies in {str(forbidden)!r}, which is never {access} a guest")
        return name

    def names_of(self, fd: int) -> list[Path]:
        """Return all names of an open directory that are seen here, and those of mounted parts of it."""
        name, mount = name_of(fd), self._mounts.get(files.mount_id(fd))
        if name is None or mount is None:
            return [Path("/")]  # it has been unmounted: nobody can say where else it is
        place, names = _located(name, mount), {name}
        for one in self._mounts.values():
            if place.device and one.device == place.device:
                if place.path.is_relative_to(one.root):
                    names.add(one.point / place.path.relative_to(one.root))
                elif one.root.is_relative_to(place.path):
                    names.add(one.point)
        return sorted(names)

    def check_below(self, what: str, given: str, name: Path, read_only: bool) -> None:
        """Refuse a directory, checked already, in which something is mounted that no guest may use. Raises ConfigError.

        For what is shared with all that is mounted below it.
        """
        for mount in self._mounts.values():
            if mount.point != name and mount.point.is_relative_to(name):
                place = _Place(mount.point, mount.device, mount.root)
                if mount.fstype in _INTERFACES or self._forbidden(place, read_only) is not None:
                    access = "shown to" if read_only else "written by"
                    raise ConfigError(
                        f"{what}: {given!r} holds the mount {str(mount.point)!r} ({mount.fstype}) of what is never "
                        f"{access} a guest; unmount it, or share another directory"
                    )

    def _forbidden(self, place: _Place, read_only: bool) -> Path | None:
        """Return the name of a forbidden place that a place holds or lies in, None if there is none."""
        every = (*self._never, *(() if read_only else self._not_writable))
        return next((forbidden.name for forbidden in every if place.meets(forbidden)), None)

    def _existing(self, path: Path) -> _Place:
        """Return the place with a name, which need not exist."""
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return _Place(path.resolve())
        try:
            name, mount = name_of(fd), self._mounts.get(files.mount_id(fd))
            return _Place(path.resolve()) if name is None or mount is None else _located(name, mount)
        finally:
            os.close(fd)


def name_of(fd: int) -> Path | None:
    """Return the name that an open file or directory has now, without links; None if it has none any more."""
    name = Path(f"/proc/self/fd/{fd}").readlink()
    if not name.is_absolute():
        return None  # "(unreachable)": the mount was detached
    return None if name.name.endswith(" (deleted)") and os.fstat(fd).st_nlink == 0 else name


def _located(name: Path, mount: Mount) -> _Place:
    if not name.is_relative_to(mount.point):
        return _Place(name)
    return _Place(name, mount.device, mount.root / name.relative_to(mount.point))


def _nested(one: Path, other: Path) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)
