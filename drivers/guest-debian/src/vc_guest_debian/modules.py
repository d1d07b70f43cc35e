"""Finds the kernel modules that a guest needs, with their dependencies, in the order to load them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from vc_core.errors import GuestError
from vc_guest_debian.tools import ToolError, run

_TIMEOUT = 120.0  #: seconds; one call takes one

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
_INSMOD = re.compile(r"insmod (.+?\.ko(?:\.[a-z0-9]+)?)(?:\s|$)")
_NOT_FOUND = re.compile(r"Module (\S+) not found")


async def load_lists(root: Path, lists: Mapping[str, Sequence[str]], work_dir: Path) -> dict[str, list[Path]]:
    """Return for each list of modules the files of these and of their dependencies, in load order.

    ``root``: the directory of an unpacked kernel package. The modules may be named by aliases; built-in ones have no
    file. The list called "" is loaded before the others, which therefore omit its files.
    Raises GuestError with the name of a module that the kernel does not have.
    """
    for list_name, names in lists.items():
        if list_name and not _NAME.fullmatch(list_name):
            raise GuestError(f"{list_name!r} is not the name of a list of kernel modules")
        for name in names:
            if not _NAME.fullmatch(name):
                raise GuestError(f"{name!r} is not the name of a kernel module")
    version = _kernel_version(root)
    await run(
        ["depmod", "-b", str(root), version], purpose="index the kernel's modules", timeout=_TIMEOUT, cwd=work_dir
    )
    no_config = work_dir / "modprobe.d"
    no_config.mkdir()
    found = {name: await _in_load_order(root, version, names, no_config) for name, names in lists.items() if names}
    at_boot = found.get("", [])
    return {name: [file for file in found.get(name, []) if not name or file not in at_boot] for name in lists}


async def _in_load_order(root: Path, version: str, names: Sequence[str], no_config: Path) -> list[Path]:
    try:
        output = await run(
            ["modprobe", "-d", str(root), "-S", version, "-C", str(no_config), "--show-depends", "-a", *names],
            purpose="find the kernel's modules",
            timeout=_TIMEOUT,
            cwd=no_config,
        )
    except ToolError as error:
        unknown = _NOT_FOUND.search(error.stderr)
        if unknown is None:
            raise
        raise GuestError(f"the kernel {version} has no module {unknown[1]!r}") from error
    found = (_INSMOD.match(line) for line in output.splitlines())
    return list(dict.fromkeys(Path(match[1]) for match in found if match))


def _kernel_version(root: Path) -> str:
    """Return the version of the kernel in ``root``, and link its modules so that any version of kmod finds them.

    Packages have them below ``/lib`` or ``/usr/lib``, and kmod reads one of the two. Raises GuestError.
    """
    lib, usr_lib = root / "lib/modules", root / "usr/lib/modules"
    present, other = (usr_lib, lib) if usr_lib.is_dir() else (lib, usr_lib)
    if not present.is_dir():
        raise GuestError("the kernel package contains no kernel modules; give another with the option kernel_package")
    other.parent.mkdir(parents=True, exist_ok=True)
    other.symlink_to(present)
    (version,) = (entry.name for entry in present.iterdir())
    return version
