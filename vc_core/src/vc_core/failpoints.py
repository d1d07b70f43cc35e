"""Named points at which a test lets a process fail, wait, hang or die: between two steps that change disk or guest.

``VC_FAILPOINTS`` says what happens where: ``store.write.renamed=kill``, several with ``;`` between them. ``2*kill``
acts only the second time that the process reaches the point. The processes that an operation starts get the variable
too. If ``VC_FAILPOINTS_LOG`` names a file, a process that is about to act at a point adds the point to it, and none
acts at a point that is in it: so a test sees that a point was reached, and each acts once, in one of these processes.
Without ``VC_FAILPOINTS``, a point costs one look at an empty dictionary.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import threading
from pathlib import Path

#: The variable of the environment that says what happens at which point.
VARIABLE = "VC_FAILPOINTS"

#: The variable with the path of the file of the points at which something happened.
LOG_VARIABLE = "VC_FAILPOINTS_LOG"

_SETTING = r"(?P<name>[a-z_.]+)=((?P<count>[1-9][0-9]*)\*)?(?P<action>error|delay|kill|hang)"

#: Seconds of the actions that wait: a delay is longer than a lock or a poll takes, and shorter than any timeout.
_WAITS = {"delay": 0.5, "hang": None}

#: What was set for each point: the action, and how often the point is still to be reached; 0: it acts each time.
_set: dict[str, tuple[str, int]] = {}


def reach(name: str) -> None:
    """Do what was set for the point ``name``; nothing was in a process that no test has started.

    Called between two steps that change disk, process or guest, with a name that no other call has. Raises OSError
    (EIO) for the action ``error``.
    """
    if _set and name in _set:
        _act(name)


def configure(settings: str) -> None:
    """Replace what is set by what a text in the form of the variable says. Raises ValueError for another form."""
    found: dict[str, tuple[str, int]] = {}
    for setting in filter(None, settings.split(";")):
        match = re.fullmatch(_SETTING, setting)
        if match is None:
            raise ValueError(f"{VARIABLE} has {setting!r}; give NAME=ACTION or NAME=COUNT*ACTION")
        found[match["name"]] = match["action"], int(match["count"] or 0)
    _set.clear()
    _set.update(found)


def _act(name: str) -> None:
    action, left = _set[name]
    if left > 1:
        _set[name] = action, left - 1
        return
    if left == 1:
        del _set[name]
    if LOG_VARIABLE in os.environ and not _is_first(name):
        return
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action in _WAITS:
        threading.Event().wait(_WAITS[action])
    else:
        raise OSError(errno.EIO, f"failpoint {name}")


def _is_first(name: str) -> bool:
    """Return whether a point is not in the log yet, and add it."""
    with Path(os.environ[LOG_VARIABLE]).open("a+", encoding="utf-8") as log:
        log.seek(0)
        first = name not in log.read().split()
        if first:
            log.write(f"{name}\n")
    return first


if VARIABLE in os.environ:
    configure(os.environ[VARIABLE])
