"""HostContext: what a driver gets to check the host with (``vc_driver_check``)."""

from __future__ import annotations

from pathlib import Path

from vc_core.driver.guest import GuestRequest
from vc_core.frozen import frozen


@frozen(kw_only=True)
class HostContext:
    """The directories that pods of this user use, and what a check may use.

    ``state_dir``, ``run_dir``, ``cache_dir``: the state root, the run root and the cache of built guests; they need not
    exist. ``work_dir``: an empty directory that only this user can enter, removed after the check. ``uuid``: a process
    that the check starts should have it as an argument and ``work_dir`` as its working directory: if the check hangs or
    dies, the core kills the processes that have both. ``timeout``: seconds from the call until the check is given up.
    ``guest``: what the guest of the pods' agent is built from; None for an agent that brings none. ``kernel``: the
    kernel of that guest; None if it is not built.
    """

    state_dir: Path
    run_dir: Path
    cache_dir: Path
    work_dir: Path
    uuid: str
    timeout: float
    guest: GuestRequest | None = None
    kernel: Path | None = None
