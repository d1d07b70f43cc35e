"""The contract of guest builders."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from vc_core.driver.guest import BuiltGuest, GuestBuilder, GuestPayload, GuestRequest
from vc_core.driver.kinds import PluginKind
from vc_core.errors import GuestError, NotSupportedError, VCError
from vc_core.plugins.drivers import GuestDriver
from vc_core.testing.contract.plugin import PluginContract
from vc_core.testing.contract.running import TIMEOUT, run, unwritten_methods_fail


def _no_progress(phrase: str, fraction: float | None) -> None:
    assert phrase
    assert fraction is None or 0 <= fraction <= 1


class GuestContract(PluginContract):
    """Subclass this for a guest builder, and set ``driver_name``.

    Override :meth:`wanted` with a request that can be built on this host to have a build tested; ``build_timeout`` is
    the timeout of a build in seconds.
    """

    kind = PluginKind.GUEST
    build_timeout = 10 * TIMEOUT

    @pytest.fixture
    def builder(self, driver: GuestDriver, options: Mapping[str, object]) -> GuestBuilder:
        """The object under test."""
        return driver.create(driver.config(options))

    @pytest.fixture
    def wanted(self, tmp_path: Path) -> GuestRequest | None:
        """A request that can be built, with its own cache below ``tmp_path``; None if no build is tested."""
        return None

    @pytest.fixture
    def impossible(self, tmp_path: Path) -> GuestRequest:
        """A request for a file that does not exist."""
        payload = GuestPayload(files={"/init": str(tmp_path / "no-such-init")})
        return GuestRequest("contract", payload, platform.machine(), tmp_path / "empty-cache")

    def test_what_cannot_be_built_is_refused_and_leaves_no_guest(
        self, builder: GuestBuilder, impossible: GuestRequest
    ) -> None:
        with pytest.raises(GuestError):
            run(builder.build(impossible, _no_progress), self.build_timeout)
        with unwritten_methods_fail():
            assert self._listed(builder, impossible.cache_dir) == []

    def test_nothing_is_found_in_an_empty_cache_and_nothing_made_there(
        self, builder: GuestBuilder, impossible: GuestRequest
    ) -> None:
        possible = replace(impossible, payload=GuestPayload(files={"/init": "/bin/true"}))
        assert run(builder.find(possible)) is None
        assert not impossible.cache_dir.exists()
        assert self._listed(builder, impossible.cache_dir) == []

    def test_removing_a_guest_that_does_not_exist_raises_a_guest_error(
        self, builder: GuestBuilder, impossible: GuestRequest
    ) -> None:
        with pytest.raises((GuestError, NotSupportedError)):
            builder.remove(impossible.cache_dir, "no-such-key")

    def test_a_built_guest_is_found_listed_and_removed(
        self, builder: GuestBuilder, wanted: GuestRequest | None
    ) -> None:
        if wanted is None:
            pytest.skip("the fixture wanted returns no request")
        image = run(builder.build(wanted, _no_progress), self.build_timeout)
        assert image.kernel.is_file()
        assert image.initramfs.is_file()
        assert run(builder.find(wanted)) == image
        for guest in self._listed(builder, wanted.cache_dir):
            assert guest.size >= image.initramfs.stat().st_size
            builder.remove(wanted.cache_dir, guest.key)
            assert run(builder.find(wanted)) is None

    def test_a_build_that_is_cancelled_leaves_no_guest(
        self, builder: GuestBuilder, wanted: GuestRequest | None
    ) -> None:
        if wanted is None:
            pytest.skip("the fixture wanted returns no request")
        request = wanted

        async def main() -> None:
            begun = asyncio.Event()
            building = asyncio.create_task(builder.build(request, lambda phrase, fraction: begun.set()))
            beginning = asyncio.create_task(begun.wait())
            await asyncio.wait({building, beginning}, return_when=asyncio.FIRST_COMPLETED)
            beginning.cancel()
            building.cancel()
            try:
                await building
            except (asyncio.CancelledError, VCError):
                assert await builder.find(request) is None

        run(main(), self.build_timeout)

    def _listed(self, builder: GuestBuilder, cache: Path) -> list[BuiltGuest]:
        try:
            return list(builder.list(cache))
        except NotSupportedError:
            return []
