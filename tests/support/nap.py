"""Hypervisors whose VM is a process that sleeps: a supervisor does for them all that it does, without a boot's time.

``nap`` is the one of the page that shows how to write a hypervisor, and ignores the directories that it is to share.
``nap-daemon`` also finds its VMs itself, as a driver does whose VMs a daemon starts.
"""

from __future__ import annotations

from pathlib import Path

import distributions

_PAGE = Path(__file__).parents[2] / "docs/how-to/write-a-hypervisor.md"

_PLUGIN = """
{hypervisor}

from vc_core.driver import hookimpl
from vc_core.host import processes

class Nap(NapHypervisor):
    @property
    def capabilities(self):
        return super().capabilities | {{HypervisorCapability.SHARED_DIRECTORIES}}

    def add_device(self, device):
        pass

class NapDaemon(Nap):
    @property
    def capabilities(self):
        return super().capabilities | {{HypervisorCapability.DISCARD}}

    async def discard(self, timeout):
        for process in processes.find_vms(self._pod.run_dir, self._pod.uuid):
            process.kill(timeout)

class Plugin:
    @hookimpl
    def vc_hypervisor_create(self, pod, config, saved):
        return {hypervisor_class}(pod, config, saved)
"""


def install(site: Path) -> None:
    """Install both drivers into a directory for ``PYTHONPATH``."""
    text = next(one for one in _PAGE.read_text(encoding="utf-8").split("```") if "class NapHypervisor" in one)
    source = text.removeprefix("python").replace("from vc_hypervisor_nap.config import NapConfig", "").strip()
    for name, class_ in (("nap", "Nap"), ("nap-daemon", "NapDaemon")):
        plugin = _PLUGIN.format(hypervisor=source, hypervisor_class=class_)
        distributions.install(site, name, "hypervisors", name, plugin)
