"""Hooks of a Hypervisor driver (entry-point group ``vc_core.hypervisors``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from vc_core.driver.context import PodContext
from vc_core.driver.hooks._markers import hookspec
from vc_core.driver.hypervisor import Hypervisor


class HypervisorSpec(Protocol):
    """What a Hypervisor plug-in implements; ``vc_hypervisor_guest`` is optional."""

    @hookspec(firstresult=True)
    def vc_hypervisor_create(self, pod: PodContext, config: object, saved: Mapping[str, object] | None) -> Hypervisor:
        """Make the object that controls one pod's VM. Does no I/O.

        Called: once per start of a pod, and once in each process that takes over its VM.
        ``pod``: the pod. ``config``: see ``vc_driver_options``. ``saved``: None for a new VM, else what
        ``Hypervisor.save()`` returned, to control that VM.
        Returns the object. Raises ConfigError when the pod cannot be served with this configuration.
        """

    @hookspec(firstresult=True)
    def vc_hypervisor_guest(self) -> str:
        """Return the name of the guest driver that builds what this hypervisor's VMs boot.

        Called: when a pod that names no guest driver, kernel and image is created, and at its start.
        Returns the name; without this hook it is ``debian``, whose kernels are for virtual hardware.
        """
