"""What ``virtc check`` and ``check_host`` find: a module of its own, because no other operation imports it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from vc_core.frozen import frozen


class CheckOutcome(StrEnum):
    """What one check of the host found."""

    OK = "ok"  #: as it should be
    WARNING = "warning"  #: pods run, with less protection or later than with the full set
    ERROR = "error"  #: no pod of these drivers starts


@frozen(kw_only=True)
class HostCheck:
    """One line of :class:`HostReport`.

    ``name``: what was looked at ("acceleration"). ``found``: what it is, in a few words. ``meaning``: one sentence that
    says what that means for pods. ``remedy``: one clause that says how to mend it, "" if nothing is to be mended.
    ``source``: who looked, "host" or a driver such as "hypervisor qemu"; the core sets it.
    """

    name: str
    outcome: CheckOutcome
    found: str
    meaning: str
    remedy: str = ""
    source: str = ""


@frozen
class HostReport:
    """What this host offers to pods of some drivers. ``can_run``: no check failed; ``is_full``: nor is one a warning.

    ``is_full`` says nothing of what pods are given: their jail is on record for each (:class:`PodStatus`).
    """

    checks: tuple[HostCheck, ...]
    can_run: bool
    is_full: bool

    @classmethod
    def of(cls, checks: Iterable[HostCheck]) -> HostReport:
        """Return the report that consists of these checks."""
        found = tuple(checks)
        outcomes = {one.outcome for one in found}
        return cls(found, CheckOutcome.ERROR not in outcomes, outcomes <= {CheckOutcome.OK})
