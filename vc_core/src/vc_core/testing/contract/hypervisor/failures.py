"""What a hypervisor does when a step fails or is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from vc_core.driver.context import PodContext
from vc_core.errors import VCError
from vc_core.testing.contract.hypervisor.base import STOP, HypervisorFixtures, Make
from vc_core.testing.contract.running import TIMEOUT, run
from vc_core.testing.slowness import scaled


class Failures(HypervisorFixtures):
    """What a hypervisor does when a step fails or is cancelled."""

    @pytest.mark.parametrize("seconds", [0.0, 0.02, 0.2])
    def test_a_preparation_that_is_cancelled_leaves_nothing(self, make: Make, seconds: float) -> None:
        async def main() -> None:
            vm = make()
            preparing = asyncio.create_task(vm.prepare(TIMEOUT))
            await asyncio.wait({preparing}, timeout=seconds)
            preparing.cancel()
            with suppress(asyncio.CancelledError, VCError):
                await preparing
            await vm.stop(STOP)
            identity = vm.identity()
            assert identity is None or not identity.alive()
            await vm.aclose()

        run(main())

    def test_a_timeout_that_is_too_short_is_kept_and_leaves_nothing(self, make: Make) -> None:
        async def main() -> None:
            vm = make()
            try:
                async with asyncio.timeout(scaled(10)):
                    with suppress(VCError):  # a fast hypervisor succeeds
                        await vm.prepare(0.001)
            finally:
                await vm.stop(STOP)
                await vm.aclose()
            identity = vm.identity()
            assert identity is None or not identity.alive()

        run(main())

    def test_a_missing_kernel_raises_a_vc_error_and_leaves_nothing(
        self, make: Make, pod: PodContext, tmp_path: Path
    ) -> None:
        assert pod.boot is not None
        if not pod.boot.kernel.stat().st_size:
            pytest.skip("the hypervisor boots nothing")
        boot = replace(pod.boot, kernel=tmp_path / "no-such-kernel")

        async def main() -> None:
            vm = make(pod=replace(pod, boot=boot))
            try:
                with pytest.raises(VCError):
                    await vm.prepare(TIMEOUT)
            finally:
                await vm.stop(STOP)
                await vm.aclose()

        run(main())

    @pytest.mark.parametrize(
        "saved", [{"contract": 1}, {"process": None}, {"process": {"pid": "x"}}, {"version": 10**9}], ids=str
    )
    def test_state_that_another_version_saved_raises_at_worst_a_vc_error(
        self, make: Make, saved: Mapping[str, object]
    ) -> None:
        async def main() -> None:
            with suppress(VCError):
                vm = make(saved)
                await vm.stop(STOP)
                await vm.aclose()

        run(main())
