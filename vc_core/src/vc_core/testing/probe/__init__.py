"""The probing guest of the contract kit: a small init that answers questions about its VM, and the host's end of it."""

from vc_core.testing.probe.guest import probing_guest
from vc_core.testing.probe.link import Answer, ProbingGuest

__all__ = ["Answer", "ProbingGuest", "probing_guest"]
