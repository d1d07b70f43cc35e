"""Checks the guest that pods boot, for ``virtc check``: whether it is built, and complete."""

from __future__ import annotations

from collections.abc import Iterator

from vc_core.driver import CheckOutcome, HostCheck, HostContext
from vc_core.errors import GuestError
from vc_guest_debian.cache import Cache, CachedGuest
from vc_guest_debian.config import DebianConfig
from vc_guest_debian.recipe import Recipe

_NAME = "guest"


def check(host: HostContext) -> Iterator[HostCheck]:
    """Yield the line of the guest of the pods' agent; none if the agent brings no guest. Called by ``virtc check``."""
    if host.guest is None:
        return
    agent = host.guest.agent
    try:
        guest = Cache(host.guest.cache_dir).find(Recipe.of(host.guest, DebianConfig()).request_key())
    except GuestError as error:
        yield HostCheck(
            name=_NAME,
            outcome=CheckOutcome.ERROR,
            found="cannot be used",
            meaning=f"No pod of agent {agent} starts that boots a built guest.",
            remedy=str(error),
        )
        return
    if guest is None:
        yield HostCheck(
            name=_NAME,
            outcome=CheckOutcome.WARNING,
            found="not built, or not complete any more",
            meaning=f"The first start of a pod of agent {agent} builds it: that takes a minute, and needs the network.",
            remedy=f"run: virtc guest build{'' if agent == 'hyperstart' else f' --agent {agent}'}",
        )
        return
    yield HostCheck(
        name=_NAME,
        outcome=CheckOutcome.OK,
        found=_contents(guest),
        meaning=f"Pods of agent {agent} boot it; its files are those that were built.",
    )


def _contents(guest: CachedGuest) -> str:
    kernel = next((name for name in guest.package_files if name.startswith("linux-image-")), "a kernel")
    return f"{kernel.removesuffix('.deb')}, {guest.size / 2**20:.0f} MiB, {guest.key}"
