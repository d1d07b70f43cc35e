"""The command ``vc-libvirtd`` without a daemon."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_help_that_cannot_be_written_is_an_error_in_one_sentence() -> None:
    with Path("/dev/full").open("wb") as full:
        command = str(Path(sys.executable).with_name("vc-libvirtd"))
        done = subprocess.run([command, "--help"], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr == b"vc-libvirtd: the standard output cannot be written: No space left on device\n"
