"""Runs the command ``virtc`` for the tests of it."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

from vc_core.cli.entry import main

MOCK = ("--hypervisor", "mock", "--agent", "noop")


def virtc_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command in a new process."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("virtc")), *arguments],
        capture_output=True,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        timeout=60,
    )


def virtc(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in this process, on standard streams of its own; much faster than a new interpreter.

    What the command changes of the process, such as when garbage is collected, is changed back.
    """
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8")) for _ in range(2)]
        null = stack.enter_context(Path(os.devnull).open(encoding="utf-8"))
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            stack.callback(signal.signal, signum, signal.getsignal(signum))
        stack.callback(gc.set_threshold, *gc.get_threshold())
        stack.callback(atexit.unregister, gc.freeze)
        for fd, file in enumerate((null, *files)):
            saved = os.dup(fd)
            stack.callback(os.close, saved)
            stack.callback(os.dup2, saved, fd)
            os.dup2(file.fileno(), fd)
        stack.enter_context(
            mock.patch.multiple(sys, argv=["virtc", *arguments], stdin=null, stdout=files[0], stderr=files[1])
        )
        status = 0
        try:
            main()
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        for file in files:
            file.flush()
            file.seek(0)
        return subprocess.CompletedProcess(arguments, status, *(file.read() for file in files))
