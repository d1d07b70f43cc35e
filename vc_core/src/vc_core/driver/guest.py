"""GuestBuilder: builds the kernel and initramfs of guests. A driver's ``vc_guest_create`` returns one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from pathlib import Path

from vc_core.driver.unsupported import unsupported
from vc_core.frozen import frozen


@frozen
class GuestPayload:
    """What an agent needs inside a guest; returned by the hook ``vc_agent_guest``, used by a GuestBuilder.

    ``files`` maps paths in the guest to files on the host (executable bits are kept); one of them must be ``/init``,
    which the kernel starts as pid 1. ``modules`` names kernel modules; the builder adds those that they depend on, and
    lists all in load order in ``/lib/modules/load`` (one absolute path a line), which ``/init`` must load. Each entry
    of ``later`` is such a list under a name, in ``/lib/modules/load.NAME``: modules for ``/init`` to load when they
    are needed, because loading takes time at every boot.
    ``packages`` names packages of the guest's distribution. ``kernel_params`` are added to the kernel's command line.
    """

    files: Mapping[str, str]
    modules: Sequence[str] = ()
    later: Mapping[str, Sequence[str]] = field(default_factory=dict)
    packages: Sequence[str] = ()
    kernel_params: Sequence[str] = ()


#: Called with a short phrase ("unpacking the kernel") and the part of the work that is done (0 to 1), or None.
Progress = Callable[[str, float | None], None]


@frozen
class GuestRequest:
    """What to build: for which agent, from which payload, for which machine (``uname -m``), into which cache."""

    agent: str
    payload: GuestPayload
    architecture: str
    cache_dir: Path


@frozen
class GuestImage:
    """A bootable guest: uncompressed or bzImage kernel, initramfs, and kernel parameters that it needs."""

    kernel: Path
    initramfs: Path
    kernel_params: tuple[str, ...] = ()


@frozen
class BuiltGuest:
    """A guest in the cache: the builder's key for it, for which agent, from what, where; ``size`` in bytes."""

    key: str
    agent: str
    made_from: tuple[str, ...]
    directory: Path
    size: int


class GuestBuilder(ABC):
    """Builds the kernel and initramfs that a hypervisor boots for an agent."""

    @abstractmethod
    async def find(self, request: GuestRequest) -> GuestImage | None:
        """Return the built guest for exactly this request, or None.

        Called at every start of a pod: fast, without the network. Raises GuestError for a guest that is damaged or a
        file of the payload that cannot be read.
        """

    @abstractmethod
    async def build(self, request: GuestRequest, progress: Progress) -> GuestImage:
        """Build the guest, even if there is one, and return it. Several processes may build one request at a time.

        Called when find returned None, and by ``virtc guest build``. ``progress`` may be called at any time before the
        return. Raises GuestError with what to do.
        """

    def list(self, cache_dir: Path) -> list[BuiltGuest]:
        """Return the guests that this driver has built into a cache. Called by ``virtc guest list`` and ``remove``.

        Raises GuestError for a guest that is damaged; NotSupportedError by default.
        """
        raise unsupported("guest", self, "list what it built")

    def remove(self, cache_dir: Path, key: str) -> None:
        """Remove the built guest ``key``; VMs that booted it run on. Called by ``virtc guest remove``.

        Raises GuestError if there is no such guest; NotSupportedError by default.
        """
        raise unsupported("guest", self, "remove what it built")
