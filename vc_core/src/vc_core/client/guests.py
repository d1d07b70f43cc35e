"""The operations of the API that act on built guests; each written once, for both interpreters."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from vc_core.client.coroutines import run_coroutine
from vc_core.client.interpreters import InThread, Operation
from vc_core.driver.guest import BuiltGuest, GuestBuilder, GuestImage, Progress
from vc_core.engine import guest_image
from vc_core.plugins.registry import Plugins
from vc_core.store.roots import Roots, guest_cache


def build_guest(
    agent_type: str,
    agent_config: Mapping[str, object],
    guest: str,
    guest_options: Mapping[str, object],
    progress: Progress | None = None,
) -> Operation[GuestImage]:
    """Build the guest for an agent afresh and return it. ``progress`` is called in the caller's thread.

    Raises ConfigError, DriverError, GuestError.
    """

    async def build(note: Progress) -> GuestImage:
        plugins = Plugins()
        request = guest_image.guest_request(plugins, agent_type, dict(agent_config), Roots.from_environment().cache)
        return await guest_image.builder(plugins, guest, guest_options).build(request, note)

    return (yield from run_coroutine(build, progress))


def list_guests(guest: str) -> Operation[list[BuiltGuest]]:
    """Return the guests in the cache that a driver built, newest last. Raises DriverError, NotSupportedError."""

    def work() -> list[BuiltGuest]:
        builder, directory = _builder(guest)
        return sorted(builder.list(directory), key=_built_at)

    found: list[BuiltGuest] = yield InThread(work)
    return found


def delete_guest(key: str, guest: str) -> Operation[None]:
    """Delete a guest that a driver built. Raises GuestError, DriverError, NotSupportedError."""

    def work() -> None:
        builder, directory = _builder(guest)
        builder.remove(directory, key)

    yield InThread(work)


def _builder(guest: str) -> tuple[GuestBuilder, Path]:
    """Return a driver's builder, and the directory of the guests that it built."""
    return guest_image.builder(Plugins(), guest, {}), guest_cache(Roots.from_environment().cache)


def _built_at(guest: BuiltGuest) -> float:
    """Return when a guest was built, in seconds since the epoch; 0 for one that was deleted meanwhile."""
    with suppress(OSError):
        return guest.directory.stat().st_mtime
    return 0.0
