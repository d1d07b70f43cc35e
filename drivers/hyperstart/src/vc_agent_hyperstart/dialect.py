"""Which messages and keys a guest supports. An original answers ERROR to a message with a key that it lacks."""

from __future__ import annotations

import msgspec

from vc_core.driver import frozen

#: First and last API version of originals that this driver supports: that of 2016, and the later of 2017-18.
API_2016, API_2018 = 4242, 4244

#: Features that a guest which answers HELLO must have (guest-protocol.md).
REQUIRED = frozenset(
    (
        *("no-next", "reasons", "exec-ack", "signal", "status128", "drain", "credit", "sync", "pod-stays"),
        *("pod-root", "mounts", "no-input", "terminal-size"),
    )
)

#: Features that it may have: the first depends on its kernel, the others were added later.
OPTIONAL = frozenset(
    (
        *("overlay", "confinement", "stats", "isolation", "wake", "times", "close-output", "archive"),
        *("own-pids", "sysctls", "process-limits", "mount-options", "freeze", "update", "seccomp", "devices"),
        *("clock", "writable-roots"),
    )
)


@frozen
class Support:
    """Which guests support a message or a key.

    Originals from API version ``first`` to ``last``, and if ``ours`` a guest of this project, with ``feature`` unless
    that is empty.
    """

    first: int = API_2016
    last: int = API_2018
    ours: bool = True
    feature: str = ""

    @property
    def needs(self) -> str:
        """The guests that support it, in words for an error."""
        apis = f"API {self.first} to {self.last}" if self.first < self.last else f"API {self.first}"
        original = f"an original of {apis}" if self.first <= self.last else ""
        ours = f"the feature {self.feature}" if self.feature else "the guest agent of this project" if self.ours else ""
        return " or ".join(filter(None, (original, ours)))


def after_hello(feature: str) -> Support:
    """Return the support of a message or key that belongs to a feature of this project's guest."""
    return Support(API_2018 + 1, API_2018, feature=feature)


class Dialect(msgspec.Struct, frozen=True):
    """One guest's dialect: its API version, and the features in its answer to HELLO if it gave one."""

    api: int
    features: frozenset[str] = frozenset()

    @property
    def ours(self) -> bool:
        """Whether the guest answered HELLO: it is this project's guest agent, or one that is compatible."""
        return bool(self.features)

    @property
    def by_id(self) -> bool:
        """Whether commands and events name processes by an id, as those of later originals do."""
        return self.api > API_2016 and not self.ours

    def supports(self, support: Support) -> bool:
        """Whether this guest is one of those that ``support`` describes."""
        if self.ours:
            return support.ours and (not support.feature or support.feature in self.features)
        return support.first <= self.api <= support.last
