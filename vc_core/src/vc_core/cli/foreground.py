"""A command in the foreground: its streams are ours, and so are its signals."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from vc_core.client import Signals

#: What a terminal or a manager of processes sends to end, interrupt or inform a program; SIGTSTP and SIGCONT stay ours.
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


class Forwarder:
    """Collects signals for a process in the guest, once :meth:`begin` was called; before, they mean this process."""

    def __init__(self, reader: int, writer: int) -> None:
        self.signals = Signals(reader)
        self._writer = writer

    def begin(self) -> None:
        """From now on signals are the guest process' own."""
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for signum in _FORWARDED:
            signal.signal(signum, lambda number, frame: None)


@contextmanager
def forwarder() -> Iterator[Forwarder]:
    """Give a Forwarder; afterwards signals are what they were."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    before = {signum: signal.getsignal(signum) for signum in _FORWARDED}
    try:
        yield Forwarder(reader, writer)
    finally:
        signal.set_wakeup_fd(-1)
        for signum, handler in before.items():
            signal.signal(signum, handler)
        os.close(reader)
        os.close(writer)
