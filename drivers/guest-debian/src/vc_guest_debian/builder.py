"""DebianBuilder: finds guests, and has them built. The other modules each do one step."""

from __future__ import annotations

from pathlib import Path

from vc_core.driver import BuiltGuest, GuestBuilder, GuestImage, GuestRequest, Progress
from vc_core.errors import GuestError
from vc_guest_debian.cache import Cache
from vc_guest_debian.config import DebianConfig
from vc_guest_debian.recipe import Recipe
from vc_guest_debian.threads import in_thread
from vc_guest_debian.tools import NEEDED, require_tool


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
        guest = await in_thread(lambda: Cache(request.cache_dir).find(key))
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
        from vc_guest_debian.building import build_guest  # here: most processes find the guest that is built

        for tool in NEEDED:
            require_tool(tool)
        recipe = Recipe.of(request, self._config)
        try:
            return await build_guest(recipe, Cache(request.cache_dir), progress)
        except OSError as error:
            raise GuestError(f"cannot build a guest in {request.cache_dir}: {error}") from error
