"""A VM is saved as a template, and others are clones of it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from vc_core.config.pod import Resources
from vc_core.driver.context import PodContext
from vc_core.driver.devices import Channel
from vc_core.driver.hypervisor import Hypervisor, HypervisorCapability
from vc_core.errors import HypervisorError
from vc_core.testing.contract.hypervisor.base import STOP, HypervisorFixtures, Make
from vc_core.testing.contract.running import TIMEOUT, promise, run
from vc_core.testing.probe.link import ProbingGuest

_CHANNEL = Channel("contract", "org.contract.0")


def _contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def _another(pod: PodContext, name: str) -> PodContext:
    """Return a pod that differs only in what is a pod's own."""
    run_dir = pod.run_dir.with_name(name)
    (run_dir / "share").mkdir(parents=True, exist_ok=True)
    run_dir.chmod(0o700)
    return replace(pod, id=name, uuid=f"{pod.uuid[:-4]}{len(name):04}", run_dir=run_dir, share_dir=run_dir / "share")


@asynccontextmanager
async def _made_with(make: Make, pod: PodContext, directory: Path, new: bool) -> AsyncIterator[Hypervisor]:
    """Start a VM that is saved in a directory, or a clone of what is there; end it with the block."""
    vm = make(pod=pod)
    vm.add_device(_CHANNEL)
    vm.use_template(directory, new)
    try:
        await vm.prepare(TIMEOUT)
        await vm.start(TIMEOUT)
        yield vm
    finally:
        await vm.stop(STOP)
        await vm.aclose()


class TemplatesOfVMs(HypervisorFixtures):
    """A VM is saved as a template, and others are clones of it."""

    def test_vms_of_a_kind_differ_only_in_what_is_a_pods_own(
        self, make: Make, pod: PodContext, able: Callable[[HypervisorCapability], None]
    ) -> None:
        able(HypervisorCapability.TEMPLATES)

        async def main() -> None:
            async def kind(of: PodContext) -> str:
                vm = make(pod=of)
                vm.add_device(_CHANNEL)
                found = await vm.kind(TIMEOUT)
                await vm.aclose()
                return found

            first = await kind(pod)
            promise(
                re.fullmatch("[A-Za-z0-9]{0,64}", first),
                f"kind returned {first!r}, which is not the name of a directory of letters and digits",
            )
            promise(first == await kind(_another(pod, "other")), "kind differs between two pods that are alike")
            larger = replace(pod, resources=Resources(memory=2 * (pod.resources.memory or 512)))
            promise(not first or first != await kind(larger), "kind is the same for a VM with more memory")

        run(main())

    def test_clones_go_on_where_a_vm_was_saved_and_do_not_change_the_template(
        self, make: Make, pod: PodContext, tmp_path: Path, able: Callable[[HypervisorCapability], None]
    ) -> None:
        able(HypervisorCapability.TEMPLATES)
        directory = tmp_path / "template"
        directory.mkdir(mode=0o700)

        async def ask(vm: Hypervisor, timeout: float) -> str:
            with await vm.open_channel(_CHANNEL.name) as channel:
                return await ProbingGuest(channel).reach(timeout)

        async def main() -> None:
            async with _made_with(make, pod, directory, new=True) as vm:
                name = await ask(vm, self.boot_timeout)
                await vm.save_template(TIMEOUT)
            before = _contents(directory)
            for other in ("first", "second"):
                async with _made_with(make, _another(pod, other), directory, new=False) as clone:
                    promise(await ask(clone, TIMEOUT) == name, "the guest of a clone is not that of its template")
            promise(_contents(directory) == before, "a clone has changed the files of its template")

        run(main(), 2 * TIMEOUT + self.boot_timeout)

    def test_a_template_that_is_broken_starts_no_clone(
        self, make: Make, pod: PodContext, tmp_path: Path, able: Callable[[HypervisorCapability], None]
    ) -> None:
        able(HypervisorCapability.TEMPLATES)
        directory = tmp_path / "template"
        directory.mkdir(mode=0o700)

        async def main() -> None:
            raised = None
            try:
                async with _made_with(make, pod, directory, new=False):
                    pass
            except HypervisorError as error:
                raised = error
            promise(raised, "prepare raised no HypervisorError for a template without files")

        run(main())
