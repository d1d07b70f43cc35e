"""Validates ids of pods and containers, and derives a pod's UUID from its run directory."""

from __future__ import annotations

import os
import re
import uuid
from pathlib import Path

from vc_core.config.values import quoted
from vc_core.errors import ConfigError

#: Letters, digits, ``_.-``, starting with a letter or digit, 64 characters at most. No id can be ``.`` or ``..``.
ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)

#: Namespace of the pods' name-based UUIDs (RFC 4122).
_UUID_NAMESPACE = uuid.UUID("6b5f2f4e-3c0f-5d0e-9f57-0b6c1d0c7a11")


def check_id(what: str, value: str) -> str:
    """Return ``value`` if it is valid as the id of ``what`` ("pod", "container"). Raises ConfigError."""
    if not isinstance(value, str) or not ID_PATTERN.fullmatch(value):
        raise ConfigError(
            f"{what} id {quoted(value)} is not valid: use 1 to 64 letters, digits, '_', '.' or '-', "
            "starting with a letter or digit",
            field="id",
        )
    return value


#: The form of the ids that :func:`new_id` returns, UUIDs of version 4 (RFC 9562).
_NEW_ID = r"(?a)[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


def is_new_id(value: str) -> bool:
    """Return whether an id has the form of those that :func:`new_id` returns: nobody chose it as a name."""
    return bool(re.fullmatch(_NEW_ID, value))


def new_id() -> str:
    """Return a new, random id, for a pod that was configured without one."""
    return str(uuid.uuid4())


def pod_uuid(run_dir: Path) -> str:
    """Return the UUID of the pod whose run directory is ``run_dir``, by which its VM is found on this host.

    It is derived from the directory's path, with links resolved, because pods of the same id in two state roots have
    two run directories. So the VM is found even if the pod's record cannot be read.
    """
    return str(uuid.uuid5(_UUID_NAMESPACE, os.path.realpath(run_dir)))
