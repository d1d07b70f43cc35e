"""The contract of hypervisors, put together from its parts."""

from vc_core.testing.contract.hypervisor.containment import Containment, SavedState
from vc_core.testing.contract.hypervisor.devices import Devices
from vc_core.testing.contract.hypervisor.failures import Failures
from vc_core.testing.contract.hypervisor.lifecycle import Lifecycle
from vc_core.testing.contract.hypervisor.take_over import TakeOver
from vc_core.testing.contract.hypervisor.templates import TemplatesOfVMs
from vc_core.testing.contract.hypervisor.whole_pod import WholePod


class HypervisorContract(Lifecycle, Failures, TakeOver, SavedState, Devices, Containment, TemplatesOfVMs, WholePod):
    """Subclass this for a hypervisor, and set ``driver_name``.

    Most tests make a VM of their own and do not wait for its guest. Those of ``Containment`` and its base look at VMs
    that booted the probing guest of ``vc_core.testing.probe``; they need the capability CHANNELS, and a C compiler on
    the first run. A hypervisor with the capability PROCESS is also tested through the public API, with the pod of the
    fixture ``pod_config``; that needs root, an installed distribution of the driver, and the agent ``noop``.
    """


__all__ = ["HypervisorContract"]
