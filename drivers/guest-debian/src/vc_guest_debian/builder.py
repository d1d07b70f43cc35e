"""The builder: what is done in which order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from vc_core.errors import GuestError
from vc_core.guest import GuestBuilder, GuestImage, GuestRequest, Progress
from vc_guest_debian.apt import Apt, Package
from vc_guest_debian.cache import MANIFEST, Cache
from vc_guest_debian.compression import decompress
from vc_guest_debian.config import DebianConfig
from vc_guest_debian.initramfs import Entry, file_entry, pack
from vc_guest_debian.kernel import bootable_kernel
from vc_guest_debian.modules import modules_in_load_order
from vc_guest_debian.recipe import LOAD_LIST, Recipe
from vc_guest_debian.tools import NEEDED, ToolError, require_tool, run

_UNPACK_DEADLINE = 300.0  #: seconds a package; takes three

#: Of what a kernel package depends on, the packages that hold the kernel and its modules; Debian has both in one.
_KERNEL_PARTS = re.compile(r"linux-(image|binary|modules)-")

#: Dependencies that serve only to configure packages, which is not done here: no maintainer script runs. They are left
#: out unless the agent asks for them by name; of what OpenSSH depends on, they are more than half.
_MAINTENANCE = re.compile(r"adduser|debconf(-.*)?|dpkg|libperl5\..*|passwd|perl(-.*)?|tar|ucf")

#: Of the packages that an agent asks for, the files that no guest needs: texts for people, character sets.
_LEFT_OUT = re.compile(r"usr/share/(doc|info|lintian|locale|man)/|usr/lib/[^/]+/gconv/")

#: Directories that Debian keeps below /usr, with links to them in /. Packages may still name them the old way.
_MERGED = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")

_T = TypeVar("_T")


class DebianBuilder(GuestBuilder):
    """Builds guests from the kernel package of the host's Debian release."""

    def __init__(self, config: DebianConfig) -> None:
        self._config = config

    async def find(self, request: GuestRequest) -> GuestImage | None:
        """Return the built guest for this request; reads the payload's files and a few small ones."""
        guest = Cache(request.cache_dir).find(Recipe.of(request, self._config).request_key())
        return guest.image() if guest else None

    async def build(self, request: GuestRequest, progress: Progress) -> GuestImage:
        """Build the guest from the packages' current versions."""
        for tool in NEEDED:
            require_tool(tool)
        recipe = Recipe.of(request, self._config)
        try:
            return await self._build(recipe, Cache(request.cache_dir), progress)
        except OSError as error:
            raise GuestError(f"cannot build a guest in {request.cache_dir}: {error}") from error

    async def _build(self, recipe: Recipe, cache: Cache, progress: Progress) -> GuestImage:
        request_key = recipe.request_key()
        before = cache.stamp(request_key)
        async with cache.building(lambda: progress("waiting for another build", None)) as work_dir:
            if cache.stamp(request_key) != before and (guest := cache.find(request_key)):
                return guest.image()  # built while this one waited
            kernel, packages = await _fetch(recipe, cache, progress)
            progress("unpacking the kernel", 0.6)
            kernel_root = await _unpack(kernel, cache.downloads, work_dir / "kernel")
            built = work_dir / "guest"
            built.mkdir()
            await _in_thread(lambda: _write_kernel(kernel_root, built / "kernel"))
            modules = await modules_in_load_order(kernel_root, recipe.modules, work_dir)
            progress("assembling the initramfs", 0.9)
            packages_root = await _unpack(packages, cache.downloads, work_dir / "packages")
            await _in_thread(lambda: _write_initramfs(recipe, modules, packages_root, built / "initramfs"))
            package_files = [package.file_name for package in (*kernel, *packages)]
            manifest = {
                **recipe.inputs(),
                "package_files": package_files,
                "sizes": {name: (built / name).stat().st_size for name in ("kernel", "initramfs")},
            }
            (built / MANIFEST).write_text(json.dumps(manifest, indent=1))
            guest = cache.publish(work_dir, request_key, recipe.content_key(package_files), built)
            cache.prune_downloads()
            progress("done", 1.0)
            return guest.image()


async def _fetch(recipe: Recipe, cache: Cache, progress: Progress) -> tuple[list[Package], list[Package]]:
    """Download what the recipe needs; return the packages of the kernel, and those of the agent."""
    with contextlib.suppress(ToolError):
        return await _fetch_by(Apt(cache.apt, recipe.architecture, own_lists=False), recipe, cache.downloads, progress)
    progress("fetching the lists of packages", 0.0)
    apt = Apt(cache.apt, recipe.architecture, own_lists=True)
    missing_lists: ToolError | None = None
    try:
        await apt.update()
    except ToolError as error:
        missing_lists = error  # perhaps only of sources that are not needed
    try:
        return await _fetch_by(apt, recipe, cache.downloads, progress)
    except ToolError as error:
        raise missing_lists or error from error


async def _fetch_by(
    apt: Apt, recipe: Recipe, downloads: Path, progress: Progress
) -> tuple[list[Package], list[Package]]:
    progress("looking for the packages", 0.0)
    kernel = [p for p in await apt.closure([recipe.kernel_package]) if _KERNEL_PARTS.match(p.name)]
    packages = [
        p
        for p in (await apt.closure(recipe.packages) if recipe.packages else [])
        if p.name in recipe.packages or not _MAINTENANCE.fullmatch(p.name)
    ]
    progress("downloading packages", 0.05)
    await apt.download(
        [*kernel, *packages], downloads, lambda share: progress("downloading packages", 0.05 + share * 0.55)
    )
    return kernel, packages


async def _unpack(packages: list[Package], downloads: Path, root: Path) -> Path:
    """Unpack packages over each other into ``root`` and return it."""
    root.mkdir()
    for package in packages:
        file = downloads / package.file_name
        try:
            await run(
                ["dpkg-deb", "--extract", str(file), str(root)],
                purpose=f"unpack {package.file_name}", deadline=_UNPACK_DEADLINE, cwd=root.parent,
            )  # fmt: skip
        except ToolError:
            file.unlink()  # apt would take it for good again, because it has the right size
            raise
    return root


def _write_kernel(root: Path, target: Path) -> None:
    images = sorted((root / "boot").glob("vmlinu[xz]-*"))
    if not images:
        raise GuestError("the kernel package holds no kernel: name another with the option kernel_package")
    target.write_bytes(bootable_kernel(images[0].read_bytes()))


def _write_initramfs(recipe: Recipe, modules: list[Path], packages_root: Path, target: Path) -> None:
    files = _package_entries(packages_root)
    prefix = "/usr" if files else ""  # where /lib is a link
    loads = []
    for module in modules:
        name = module.name[: module.name.index(".ko") + 3]
        loads.append(f"/lib/modules/{name}\n")
        files[f"{prefix}/lib/modules/{name}"] = file_entry(decompress(module.read_bytes(), f"the module {name}"))
    files[f"{prefix}{LOAD_LIST}"] = file_entry("".join(loads).encode())
    files.update(recipe.files)
    with target.open("wb") as archive:
        archive.writelines(pack(files))


def _package_entries(root: Path) -> dict[str, Entry]:
    """Return what was unpacked of packages, with the directories in / that Debian keeps below /usr moved there."""
    files: dict[str, Entry] = {}
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        status = path.lstat()
        if _LEFT_OUT.match(name) or (name in _MERGED and path.is_dir()):
            continue
        if name.split("/")[0] in _MERGED:
            name = f"usr/{name}"
        if stat.S_ISLNK(status.st_mode):
            files[f"/{name}"] = Entry(status.st_mode, str(path.readlink()).encode())
        elif stat.S_ISDIR(status.st_mode):
            files[f"/{name}"] = Entry(status.st_mode)
        elif stat.S_ISREG(status.st_mode):
            files[f"/{name}"] = Entry(status.st_mode, path.read_bytes())
    if files:
        files |= {f"/{name}": Entry(stat.S_IFLNK | 0o777, f"usr/{name}".encode()) for name in _MERGED}
    return files


async def _in_thread(work: Callable[[], _T]) -> _T:
    """Run work in a thread and, unlike asyncio.to_thread, be sure that it has ended on every way out."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
