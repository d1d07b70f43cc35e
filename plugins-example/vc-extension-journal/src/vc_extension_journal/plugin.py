"""The plug-in class that the entry point names."""

from __future__ import annotations

from collections.abc import Generator

from vc_core.driver import Hypervisor, PodContext, hookimpl
from vc_extension_journal.journal import wanted, write
from vc_extension_journal.timed import TimedHypervisor


class JournalPlugin:
    """Told of every transition, and around every hypervisor."""

    @hookimpl
    def vc_pod_transition(self, pod_id: str, old: str, new: str) -> None:
        """Note what became of a pod."""
        write("pod", pod=pod_id, old=old, new=new)

    @hookimpl
    def vc_container_transition(self, pod_id: str, container_id: str, old: str, new: str) -> None:
        """Note what became of a container."""
        write("container", pod=pod_id, container=container_id, old=old, new=new)

    @hookimpl(wrapper=True)
    def vc_hypervisor_create(self, pod: PodContext) -> Generator[None, object, object]:
        """Time each call that acts on the VM, of the hypervisor that the driver made."""
        made = yield
        if not wanted() or not isinstance(made, Hypervisor):
            return made  # the core says better than we could whose mistake the latter is

        def note(call: str, seconds: float, error: str | None) -> None:
            write("call", pod=pod.id, hypervisor=type(made).__name__, call=call, seconds=seconds, error=error)

        return TimedHypervisor(made, note)
