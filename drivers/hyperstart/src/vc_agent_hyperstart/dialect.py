"""How a guest speaks: which messages and keys it knows. An original fails on a key that it does not know."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

#: API versions of originals that are known to speak as this driver does: 2016, and the two of 2017-18.
API_2016, API_2018 = 4242, 4244

#: What a guest that answers HELLO must be able to do (guest-protocol.md).
REQUIRED = frozenset(
    (
        *("no-next", "reasons", "exec-ack", "signal", "status128", "drain", "credit", "sync", "pod-stays"),
        *("pod-root", "mounts", "no-input", "terminal-size"),
    )
)

#: What it may be able to do besides: the first needs its kernel's help, the others came later.
OPTIONAL = frozenset(("overlay", "confinement", "stats"))


@dataclass(frozen=True, slots=True)
class Known:
    """Which guests know a message or a key: originals by API version, and ours (with that feature, if one is named)."""

    first: int = API_2016
    last: int = API_2018
    ours: bool = True
    feature: str = ""

    @property
    def needs(self) -> str:
        """Say what kind of guest is needed."""
        apis = f"API {self.first} to {self.last}" if self.first < self.last else f"API {self.first}"
        original = f"an original of {apis}" if self.first <= self.last else ""
        ours = f"the feature {self.feature}" if self.feature else "the guest agent of this project" if self.ours else ""
        return " or ".join(filter(None, (original, ours)))


def after_hello(feature: str) -> Known:
    """Return who knows what came with a feature of ours."""
    return Known(API_2018 + 1, API_2018, feature=feature)


class Dialect(msgspec.Struct, frozen=True):
    """One guest's dialect: its API version, and its features if it is ours (has answered HELLO)."""

    api: int
    features: frozenset[str] = frozenset()

    @property
    def ours(self) -> bool:
        """Whether the guest agent is this project's, or one that can as much."""
        return bool(self.features)

    @property
    def by_id(self) -> bool:
        """Whether processes have ids, by which later originals name them in commands and events."""
        return self.api > API_2016 and not self.ours

    def knows(self, known: Known) -> bool:
        """Whether this guest is among those."""
        if self.ours:
            return known.ours and (not known.feature or known.feature in self.features)
        return known.first <= self.api <= known.last
