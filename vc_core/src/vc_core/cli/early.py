"""Starts the supervisor of ``virtc pod run`` before the modules of the command are loaded.

That takes as long as the supervisor takes to load its own, so on a host with two CPUs it costs nothing. Only where
there are templates, as for pods of the API (``Starting.spawn_early``), and only for a new id: others are in an option
or a file, which are read later.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vc_core.client.starting import Starting

_started: Starting | None = None

#: Beginnings of arguments with which the command names the pod, starts none, or has the supervisor write a trace.
_OTHERS = ("--id", "-h", "--help", "--trace", "--timeline")


def begin(arguments: Sequence[str]) -> None:
    """Start a supervisor if these arguments are likely to start a pod. Never raises: the command reports what fails."""
    global _started
    if [*arguments[:2]] != ["pod", "run"] or any(one.startswith(_OTHERS) for one in _before_command(arguments)):
        return
    from vc_core.client.starting import begin_early
    from vc_core.config.ids import new_id
    from vc_core.errors import VCError
    from vc_core.store.store import Store

    with suppress(VCError):
        _started = begin_early(Store.here(), new_id())


def take() -> Starting | None:
    """Return the supervisor that was started, if any; the caller closes it. One that nobody takes ends with virtc."""
    global _started
    starting, _started = _started, None
    return starting


def _before_command(arguments: Sequence[str]) -> Sequence[str]:
    """Return the arguments before those of the container's command, which follow ``--``."""
    return arguments[: arguments.index("--")] if "--" in arguments else arguments
