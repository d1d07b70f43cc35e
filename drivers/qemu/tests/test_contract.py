"""The contract that every hypervisor keeps, with machines whose kernel halts at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from vc_core.driver import Boot
from vc_core.testing import HypervisorContract

#: cli; hlt; jmp to the hlt: what a kernel without anything to do does.
HALT = b"\xfa\xf4\xeb\xfd"


@pytest.mark.vm
class TestContract(HypervisorContract):
    driver_name = "qemu"

    @pytest.fixture
    def boot(self, unbootable: Boot, tmp_path: Path) -> Boot:
        kernel = bytearray(unbootable.kernel.read_bytes())
        kernel[0x200:0x202] = b"\xeb\x66"  # where the boot protocol enters: over its header, to 0x268
        kernel[0x268 : 0x268 + len(HALT)] = HALT
        (tmp_path / "halting-kernel").write_bytes(kernel)
        return Boot(tmp_path / "halting-kernel", unbootable.image, True, ())
