"""Writes the two files of a guest: its kernel and its initramfs."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from vc_core.driver import initramfs
from vc_core.errors import GuestError
from vc_guest_debian.compression import decompress
from vc_guest_debian.config import LOAD_LIST
from vc_guest_debian.kernel import bootable_kernel

#: Files of the agent's packages that are left out: documentation, translations, character sets.
_LEFT_OUT = re.compile(r"/usr/share/(doc|info|lintian|locale|man)/|/usr/lib/[^/]+/gconv/")

#: Directories that Debian has below /usr, with links to them in /. Some packages still have files in /bin or /lib.
_BELOW_USR = frozenset({"bin", "lib", "lib32", "lib64", "libx32", "sbin"})


def write_kernel(root: Path, target: Path) -> None:
    """Write the kernel of the packages that are unpacked in ``root``. Blocks. Raises GuestError, OSError."""
    images = sorted((root / "boot").glob("vmlinu[xz]-*"))
    if not images:
        raise GuestError("the kernel package contains no kernel; give another with the option kernel_package")
    target.write_bytes(bootable_kernel(images[0].read_bytes()))


def write_initramfs(
    lists: Mapping[str, Sequence[Path]], packages_root: Path, payload: Mapping[str, initramfs.Entry], target: Path
) -> None:
    """Write the initramfs: the unpacked packages, modules and their lists, and the agent's files, which replace others.

    The list for the boot has the name "". Blocks. Raises GuestError, OSError.
    """
    files = _package_files(packages_root)
    for module in {module for modules in lists.values() for module in modules}:
        files[_path(module)] = initramfs.file_entry(decompress(module.read_bytes(), f"the module {module.name}"))
    for name, modules in lists.items():
        text = "".join(f"{_path(module)}\n" for module in modules)
        files[f"{LOAD_LIST}.{name}" if name else LOAD_LIST] = initramfs.file_entry(text.encode())
    with target.open("wb") as archive:
        archive.writelines(initramfs.pack(_below_usr({**files, **payload})))


def _path(module: Path) -> str:
    """Return the path of a module in the guest, where it is not compressed."""
    return f"/lib/modules/{module.name.partition('.ko')[0]}.ko"


def _package_files(root: Path) -> dict[str, initramfs.Entry]:
    """Return the files below ``root``, by their paths in the guest."""
    files = {}
    for path in root.rglob("*"):
        name = f"/{path.relative_to(root)}"
        mode = path.lstat().st_mode
        if _LEFT_OUT.match(name):
            continue
        if stat.S_ISLNK(mode):
            files[name] = initramfs.Entry(mode, os.fsencode(path.readlink()))
        else:
            files[name] = initramfs.Entry(mode, b"" if stat.S_ISDIR(mode) else path.read_bytes())
    return files


def _below_usr(files: Mapping[str, initramfs.Entry]) -> dict[str, initramfs.Entry]:
    """Move the files of directories that Debian has below /usr there, and put links in their places.

    The kernel unpacks in the archive's order: a link must not come before what is written through it.
    """
    moved = {}
    for path, entry in files.items():
        top = path.split("/")[1]
        if top not in _BELOW_USR:
            moved[path] = entry
        elif path != f"/{top}":
            moved[f"/usr{path}"] = entry
    # The directories below /usr that have files, moved by this function or packed there by a newer release.
    for top in {path.split("/")[2] for path in moved if path.startswith("/usr/")} & set(_BELOW_USR):
        moved[f"/{top}"] = initramfs.Entry(stat.S_IFLNK | 0o777, f"usr/{top}".encode())
    return moved
