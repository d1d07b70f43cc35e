"""Hooks that a driver of any kind may implement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from vc_core.driver.hooks._markers import hookspec
from vc_core.driver.host_context import HostContext
from vc_core.host_report import HostCheck


class DriverSpec(Protocol):
    """Optional hooks of every driver."""

    @hookspec(firstresult=True)
    def vc_driver_options(self) -> type[object]:
        """Return the class whose fields are the driver's options.

        Called: when a pod is created, before each call of the create hook, and to list the options of the driver.
        Returns a frozen dataclass. The type of a field is that of the option, and ``Annotated[type, "text"]``
        describes it. The core reads the options into an object of the class (:mod:`vc_core.driver.options`), which is
        the argument ``config`` of the other hooks, and refuses unknown options and values of other types.
        ``__post_init__`` checks what types cannot express, and raises ConfigError that names option and value.
        Without this hook the driver has no options.
        """

    @hookspec(firstresult=True)
    def vc_driver_probe(self) -> Sequence[str]:
        """Return why the driver cannot work on this host.

        Called: by ``virtc drivers``. Cheap: looks at files, starts no process.
        Returns one sentence for each reason, with what to do; empty means that it works.
        """

    @hookspec(firstresult=True)
    def vc_driver_check(self, host: HostContext) -> Sequence[HostCheck]:
        """Return what the driver finds on this host: what works, what is missing, and how to mend it.

        Called: by ``vc_core.check_host`` and ``virtc check``, in a process of its own, if ``vc_driver_probe`` finds
        nothing. Unlike other hooks it may start processes and wait for them, ``host.timeout`` seconds in all; it leaves
        none, and changes nothing outside of ``host.work_dir``.
        ``host``: the directories that pods use, and a directory to work in.
        Returns one object for each line, with what it means, and with what to do unless it is ``ok``. What keeps every
        pod from starting is an ``error``; what weakens the protection of the host is a ``warning``.
        """
