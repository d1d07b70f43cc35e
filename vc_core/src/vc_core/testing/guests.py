"""Guests for tests that boot a real virtual machine, from the host's cache of built guests."""

from __future__ import annotations

import asyncio
import platform

from vc_core.driver.guest import GuestImage, GuestPayload, GuestRequest
from vc_core.engine.guest_image import find_or_build, guest_request
from vc_core.plugins.registry import Plugins
from vc_core.store.roots import Roots


def built_guest(
    agent: str, payload: GuestPayload | None = None, *, architecture: str | None = None, builder: str = "debian"
) -> GuestImage:
    """Return the built guest of an agent; build it if the cache of built guests does not hold it.

    Called by fixtures of tests, which should be of session scope: a build takes up to minutes.

    ``payload`` is what the guest holds, by default what the driver of ``agent`` provides; with a payload, no driver of
    that name need be installed. ``architecture`` is as ``uname -m`` prints it, by default this host's. ``builder`` is
    the name of the guest driver. Raises ConfigError, GuestError, and DriverError if a driver cannot be loaded.
    """
    plugins, cache = Plugins(), Roots.from_environment().cache
    if payload is None:
        payload = guest_request(plugins, agent, {}, cache).payload
    request = GuestRequest(agent, payload, architecture or platform.machine(), cache / "guests")
    return asyncio.run(find_or_build(plugins, builder, request, lambda phrase, fraction: None))
