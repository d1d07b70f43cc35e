"""A libvirt daemon for this session, in a directory of its own: tests never use that of the host."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from vc_core.errors import VCError

#: What the daemon found out about QEMU, which takes seconds; libvirt itself checks whether it is still true.
_CACHE = Path(__file__).parents[2] / ".cache/libvirt"

#: Seconds after which a daemon without VMs and clients ends by itself, for a session that is killed; a session that
#: goes on may not use it for long.
_IDLE = 3600


class Daemon:
    """The daemon, started when a test first needs it."""

    def __init__(self) -> None:
        self._directory: Path | None = None

    def start(self) -> str:
        """Start the daemon unless it has been; return why that is impossible, "" if it runs."""
        if self._directory is not None:
            return ""
        try:
            from vc_hypervisor_libvirt import daemon
            from vc_hypervisor_libvirt.config import URI_VARIABLE
        except ImportError:
            return ""  # the probe of the driver gives the reason
        if problems := daemon.problems():
            return "; ".join(problems)
        directory = Path(tempfile.mkdtemp(prefix="vc-libvirtd-"))  # short, for its socket
        try:
            daemon.start(directory, _CACHE, _IDLE)
        except VCError as error:
            shutil.rmtree(directory)
            return str(error)
        self._directory = directory
        os.environ[URI_VARIABLE] = daemon.uri(directory)
        return ""

    def stop(self) -> None:
        """End the daemon if it was started."""
        if self._directory is not None:
            from vc_hypervisor_libvirt import daemon

            daemon.stop(self._directory)
            shutil.rmtree(self._directory)
            self._directory = None


#: The one of this process, which the plugin ``needs`` starts and ends.
DAEMON = Daemon()
