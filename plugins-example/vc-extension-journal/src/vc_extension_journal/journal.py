"""The file: one JSON object a line, written by any number of processes at once."""

from __future__ import annotations

import json
import logging
import os
import time

#: The environment variable that names the file.
PATH_VARIABLE = "VC_JOURNAL"

_log = logging.getLogger(__name__)


def wanted() -> bool:
    """Tell whether the environment names a journal."""
    return bool(os.environ.get(PATH_VARIABLE))


def write(event: str, **facts: object) -> None:
    """Append a line if the environment names a journal. Never raises: a full disk must not stop a pod."""
    if not wanted():
        return
    path = os.environ[PATH_VARIABLE]
    line = json.dumps({"time": time.time(), "process": os.getpid(), "event": event, **facts})
    try:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, f"{line}\n".encode())  # in one piece, so that lines of several writers do not mix
        finally:
            os.close(file)
    except OSError as error:
        _log.warning("journal %r cannot be written: %s", path, error.strerror)
