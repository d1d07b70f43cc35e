"""RunDir: the paths of one VM's files in the pod's run directory."""

from __future__ import annotations

from pathlib import Path

from vc_core.driver import frozen


@frozen
class RunDir:
    """The paths of the files; makes none. ``path`` is also the launcher's working directory."""

    path: Path

    def socket(self, name: str) -> Path:
        """Return the path of a socket; the names are those of ``cmdline``."""
        return self.path / f"{name}.sock"

    @property
    def messages(self) -> Path:
        """The pipe that QEMU writes messages to. It holds 64 KiB while no owner reads; QEMU discards the rest."""
        return self.path / "qemu.pipe"

    @property
    def messages_log(self) -> Path:
        """The log of QEMU's messages, copied from that pipe."""
        return self.path / "qemu.log"

    @property
    def console_log(self) -> Path:
        """The log of the guest's console."""
        return self.path / "console.log"
