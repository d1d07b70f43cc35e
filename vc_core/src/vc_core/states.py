"""The states of pods and containers, and the moves between them, as data."""

from __future__ import annotations

from enum import StrEnum

from vc_core.errors import StateError


class State(StrEnum):
    """The state of a pod or of a container."""

    READY = "ready"  #: created; nothing runs
    RUNNING = "running"  #: the VM (of a pod) or the main process (of a container) runs
    PAUSED = "paused"  #: the VM is suspended
    STOPPED = "stopped"  #: it ran and ended; can be started again
    FAILED = "failed"  #: an operation failed and its clean-up failed too; the reason says what is left


#: Every move that is allowed, by the state it starts from. Any state may also become FAILED.
TRANSITIONS: dict[State, frozenset[State]] = {
    State.READY: frozenset({State.RUNNING}),
    State.RUNNING: frozenset({State.PAUSED, State.STOPPED}),
    State.PAUSED: frozenset({State.RUNNING, State.STOPPED}),
    State.STOPPED: frozenset({State.RUNNING}),
    State.FAILED: frozenset({State.RUNNING, State.STOPPED}),
}


def require_state(thing: str, state: State, wanted: frozenset[State], doing: str) -> None:
    """Raise unless ``state`` is one of ``wanted``; called at the start of every operation.

    ``thing`` names the pod or container ("pod 'p1'"), ``doing`` the operation ("starting it").
    Raises StateError.
    """
    if state not in wanted:
        names = [str(one) for one in State if one in wanted]
        raise StateError(f"{thing} is {state}; {doing} needs it {' or '.join(names)}", state=str(state), wanted=names)


def move(thing: str, old: State, new: State) -> State:
    """Return ``new`` if the transition table allows the move, for whoever commits a state.

    Raises StateError.
    """
    if new is not State.FAILED and new not in TRANSITIONS[old]:
        raise StateError(f"{thing} cannot move from {old} to {new}", state=str(old), wanted=sorted(TRANSITIONS[old]))
    return new
