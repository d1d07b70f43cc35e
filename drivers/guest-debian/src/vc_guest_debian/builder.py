"""DebianBuilder: finds and builds guests. The other modules each do one step."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from vc_core.driver import BuiltGuest, GuestBuilder, GuestImage, GuestRequest, Progress
from vc_core.errors import GuestError
from vc_guest_debian import integrity
from vc_guest_debian.apt import Package
from vc_guest_debian.cache import FILES, MANIFEST, Cache
from vc_guest_debian.config import DebianConfig
from vc_guest_debian.contents import write_initramfs, write_kernel
from vc_guest_debian.fetch import fetch
from vc_guest_debian.modules import load_lists
from vc_guest_debian.recipe import Recipe
from vc_guest_debian.tools import NEEDED, require_tool, run

_UNPACK_TIMEOUT = 300.0  #: seconds for one package, which takes three

_T = TypeVar("_T")


class DebianBuilder(GuestBuilder):
    """Builds guests from the kernel package of the host's Debian release."""

    def __init__(self, config: DebianConfig) -> None:
        self._config = config

    async def find(self, request: GuestRequest) -> GuestImage | None:
        """Return the built guest for this request, or None; reads the payload's files and a few small ones.

        After a boot of the host, the guest's files are read once and compared with their recorded hashes.
        Raises GuestError.
        """
        key = Recipe.of(request, self._config).request_key()
        guest = await _in_thread(lambda: Cache(request.cache_dir).find(key))
        return guest.image() if guest else None

    def list(self, cache_dir: Path) -> list[BuiltGuest]:
        """Return every guest that is complete."""
        return [
            BuiltGuest(one.key, one.agent, one.package_files, one.directory, one.size)
            for one in Cache(cache_dir).guests()
        ]

    def remove(self, cache_dir: Path, key: str) -> None:
        """Remove the guest with a content key. Raises GuestError when there is none."""
        Cache(cache_dir).remove(key)

    async def build(self, request: GuestRequest, progress: Progress) -> GuestImage:
        """Build the guest from the packages' current versions. Raises GuestError."""
        for tool in NEEDED:
            require_tool(tool)
        recipe = Recipe.of(request, self._config)
        try:
            return await _build(recipe, Cache(request.cache_dir), progress)
        except OSError as error:
            raise GuestError(f"cannot build a guest in {request.cache_dir}: {error}") from error


async def _build(recipe: Recipe, cache: Cache, progress: Progress) -> GuestImage:
    request_key = recipe.request_key()
    before = cache.stamp(request_key)
    async with cache.building(lambda: progress("waiting for another build", None)) as work_dir:
        if cache.stamp(request_key) != before and (guest := await _in_thread(lambda: cache.find(request_key))):
            return guest.image()  # another process has built it while this one waited
        packages = await fetch(recipe, cache.apt, cache.downloads, progress)
        progress("unpacking the kernel", 0.6)
        kernel_root = await _unpack(packages.kernel, cache.downloads, work_dir / "kernel")
        built = work_dir / "guest"
        built.mkdir(mode=0o700)
        await _in_thread(lambda: write_kernel(kernel_root, built / "kernel"))
        lists = await load_lists(kernel_root, {"": recipe.modules, **recipe.later}, work_dir)
        progress("assembling the initramfs", 0.9)
        root = await _unpack(packages.agent, cache.downloads, work_dir / "packages")
        await _in_thread(lambda: write_initramfs(lists, root, recipe.files, built / "initramfs"))
        manifest = {
            **recipe.inputs(),
            "package_files": packages.file_names(),
            "sizes": {name: (built / name).stat().st_size for name in FILES},
            "sha256": {name: await asyncio.to_thread(integrity.hash_of, built / name) for name in FILES},
        }
        (built / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        guest = cache.publish(work_dir, request_key, recipe.content_key(packages.file_names()), built)
        cache.prune_downloads()
        progress("done", 1.0)
        return guest.image()


async def _unpack(packages: Sequence[Package], downloads: Path, root: Path) -> Path:
    """Unpack packages over each other into ``root`` and return it."""
    root.mkdir()
    for package in packages:
        await run(
            ["dpkg-deb", "--extract", str(downloads / package.file_name), str(root)],
            purpose=f"unpack {package.file_name}",
            timeout=_UNPACK_TIMEOUT,
            cwd=root.parent,
        )
    return root


async def _in_thread(work: Callable[[], _T]) -> _T:
    """Run ``work`` in a thread; unlike asyncio.to_thread, when cancelled wait for its end, and only then raise."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise
