"""Builds a guest: fetches and unpacks packages, and writes its kernel and initramfs into the cache."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

from vc_core.driver import GuestImage, Progress
from vc_guest_debian import integrity
from vc_guest_debian.apt import Package
from vc_guest_debian.cache import FILES, MANIFEST, Cache
from vc_guest_debian.contents import write_initramfs, write_kernel
from vc_guest_debian.fetch import fetch
from vc_guest_debian.modules import load_lists
from vc_guest_debian.recipe import Recipe
from vc_guest_debian.threads import in_thread
from vc_guest_debian.tools import run

_UNPACK_TIMEOUT = 300.0  #: seconds for one package, which takes three


async def build_guest(recipe: Recipe, cache: Cache, progress: Progress) -> GuestImage:
    """Build the guest from the packages' current versions. Raises GuestError, OSError."""
    request_key = recipe.request_key()
    before = cache.stamp(request_key)
    async with cache.building(lambda: progress("waiting for another build", None)) as work_dir:
        if cache.stamp(request_key) != before and (guest := await in_thread(lambda: cache.find(request_key))):
            return guest.image()  # another process has built it while this one waited
        packages = await fetch(recipe, cache.apt, cache.downloads, progress)
        content_key = recipe.content_key(packages.file_names())
        if guest := await in_thread(lambda: cache.serve(work_dir, request_key, content_key)):
            await in_thread(cache.prune_downloads)
            progress("done", 1.0)
            return guest.image()  # built from the same packages before
        progress("unpacking the kernel", 0.6)
        kernel_root = await _unpack(packages.kernel, cache.downloads, work_dir / "kernel")
        built = work_dir / "guest"
        built.mkdir(mode=0o700)
        await in_thread(lambda: write_kernel(kernel_root, built / "kernel"))
        lists = await load_lists(kernel_root, {"": recipe.modules, **recipe.later}, work_dir)
        progress("assembling the initramfs", 0.9)
        root = await _unpack(packages.agent, cache.downloads, work_dir / "packages")
        await in_thread(lambda: write_initramfs(lists, root, recipe.files, built / "initramfs"))
        manifest = {
            **recipe.inputs(),
            "package_files": packages.file_names(),
            "sizes": {name: (built / name).stat().st_size for name in FILES},
            "sha256": {name: await asyncio.to_thread(integrity.hash_of, built / name) for name in FILES},
        }
        (built / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        guest = cache.publish(work_dir, request_key, content_key, built)
        await in_thread(cache.prune_downloads)
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
