"""What belongs to one VM in the pod's run directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vc_hypervisor_qemu.cmdline import PID_FILE


@dataclass(frozen=True, slots=True)
class RunDir:
    """Names, and nothing else; ``path`` is also QEMU's working directory."""

    path: Path

    def socket(self, name: str) -> Path:
        """Return where a socket is; the names are those of ``cmdline``."""
        return self.path / f"{name}.sock"

    @property
    def messages(self) -> Path:
        """The pipe that QEMU writes messages to. It holds some while nobody reads, and never makes QEMU wait."""
        return self.path / "qemu.pipe"

    @property
    def messages_log(self) -> Path:
        """What came out of that pipe."""
        return self.path / "qemu.log"

    @property
    def console_log(self) -> Path:
        """What came from the guest's console."""
        return self.path / "console.log"

    @property
    def pid_file(self) -> Path:
        """Written and locked by QEMU."""
        return self.path / PID_FILE
