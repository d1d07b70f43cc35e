"""The states of pods and containers, the moves between them, and what each operation requires of them, as data."""

from __future__ import annotations

from enum import Enum, StrEnum, unique

from vc_core.errors import StateError
from vc_core.frozen import frozen


class State(StrEnum):
    """The state of a pod or of a container."""

    READY = "ready"  #: created; nothing runs
    RUNNING = "running"  #: the VM (of a pod) or the main process (of a container) runs
    PAUSED = "paused"  #: the VM (of a pod) or all processes (of a container) are suspended
    STOPPED = "stopped"  #: it ran and ended; can be started again
    FAILED = "failed"  #: an operation failed and its clean-up failed too; the reason names what is left


#: Every move that is allowed, by the state it starts from. Any state may also become FAILED.
TRANSITIONS: dict[State, frozenset[State]] = {
    State.READY: frozenset({State.RUNNING}),
    State.RUNNING: frozenset({State.PAUSED, State.STOPPED}),
    State.PAUSED: frozenset({State.RUNNING, State.STOPPED}),
    State.STOPPED: frozenset({State.RUNNING}),
    State.FAILED: frozenset({State.RUNNING, State.STOPPED}),
}

#: States in which the VM (or the main process) exists.
LIVE_STATES = frozenset({State.RUNNING, State.PAUSED})

#: States of what can be stopped: a pod that failed may have a VM.
STOPPABLE_STATES = LIVE_STATES | {State.FAILED}

#: States of what can be started or deleted.
STOPPED_STATES = frozenset({State.READY, State.STOPPED, State.FAILED})

_RUNNING = frozenset({State.RUNNING})
_PAUSED = frozenset({State.PAUSED})

#: States in which an agent answers, or there is none.
_NOT_PAUSED = frozenset(State) - {State.PAUSED}


@frozen
class Precondition:
    """What one operation requires.

    ``wording`` names the operation in a message; ``{}`` in it stands for what the operation acts on.
    """

    wording: str
    pod: frozenset[State] | None  #: states of the pod that allow it; None: all
    container: frozenset[State] | None = None  #: states of the container that allow it; None: all, or no container


@unique
class Action(Enum):
    """Every operation that requires a state; the client checks it before a request, the engine before the work."""

    START_POD = Precondition("starting {}", STOPPED_STATES)
    STOP_POD = Precondition("stopping {}", STOPPABLE_STATES)
    PAUSE_POD = Precondition("pausing {}", _RUNNING)
    RESUME_POD = Precondition("resuming {}", frozenset({State.PAUSED}))
    DELETE_POD = Precondition("deleting {} without force", STOPPED_STATES)
    ENTER_POD = Precondition("entering {}", _RUNNING)
    START_CONTAINER = Precondition("starting {}", _RUNNING, STOPPED_STATES)
    STOP_CONTAINER = Precondition("stopping {}", _RUNNING, LIVE_STATES)
    KILL_CONTAINER = Precondition("sending a signal to {}", _RUNNING, LIVE_STATES)
    PAUSE_CONTAINER = Precondition("pausing {}", _RUNNING, _RUNNING)
    RESUME_CONTAINER = Precondition("resuming {}", _RUNNING, _PAUSED)
    UPDATE_CONTAINER = Precondition("changing the limits of {}", None, frozenset(State))
    DELETE_CONTAINER = Precondition("deleting {} without force", _NOT_PAUSED, STOPPED_STATES)
    ENTER_CONTAINER = Precondition("entering {}", _RUNNING, _RUNNING)
    ATTACH_CONTAINER = Precondition("attaching to {}", _RUNNING, LIVE_STATES)
    COPY_POD = Precondition("copying files of {}", _RUNNING)
    COPY_CONTAINER = Precondition("copying files of {}", _RUNNING, _RUNNING)
    RESIZE_CONTAINER = Precondition("resizing the terminal of {}", _RUNNING, LIVE_STATES)
    SIGNAL_PROCESS = Precondition("sending a signal in {}", _RUNNING)
    WRITE_CONSOLE = Precondition("writing to the console of {}", _RUNNING)
    RESIZE_PROCESS = Precondition("resizing a terminal in {}", _RUNNING)
    STATS_CONTAINER = Precondition("measuring what {} uses", _RUNNING, LIVE_STATES)
    STATS_POD = Precondition("measuring what {} uses", _RUNNING)
    KILL_POD = Precondition("sending a signal to {}", _RUNNING)
    WAIT_POD = Precondition("waiting for the end of {}", frozenset(State) - {State.READY})
    WAIT_CONTAINER = Precondition("waiting for the end of {}", None, LIVE_STATES | {State.STOPPED})


def require_state(thing: str, state: State, wanted: frozenset[State], action: str) -> None:
    """Raise StateError unless ``state`` is one of ``wanted``.

    ``thing`` names the pod or container ("pod 'p1'"), ``action`` the operation ("starting it").
    """
    if state not in wanted:
        names = [str(one) for one in State if one in wanted]
        raise StateError(f"{thing} is {state}; {action} needs it {' or '.join(names)}", state=str(state), wanted=names)


def move(thing: str, old: State, new: State) -> State:
    """Return ``new`` if the transition table allows the move. Called before a state is committed.

    Raises StateError.
    """
    if new is not State.FAILED and new not in TRANSITIONS[old]:
        raise StateError(f"{thing} cannot move from {old} to {new}", state=str(old), wanted=sorted(TRANSITIONS[old]))
    return new
